"""Verbs on feedback: list, show, approve, reject, import, export, harvest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.backends.disk import write_whole
from tunewright.core.references import list_records
from tunewright.curate.why import why
from tunewright.errors import UnknownReference
from tunewright.feedback.exchange import FileFormat, encode_rows, export_row
from tunewright.feedback.harvest import harvest, survey
from tunewright.feedback.review import Decision, check_review, decide, review_queue
from tunewright.live_ports import Live
from tunewright.pipeline.feedback_files import Imported, format_of, import_file
from tunewright.pipeline.harvested import harvest_path, make_mask, write_harvest
from tunewright.pipeline.load import load_recipe
from tunewright.ports import Ports
from tunewright.records import (
    DatasetVersion,
    EventDraft,
    Feedback,
    FeedbackKind,
    Harvest,
    ReviewStatus,
    Trace,
    TraceText,
)
from tunewright.values import Ref


@dataclass(frozen=True, slots=True)
class Shown:
    """One feedback as a person looks at it."""

    feedback: Feedback
    is_sample: bool = False
    """Drawn uniformly into the review queue."""
    trace: Trace | None = None
    """Absent when its time is over."""
    said: TraceText | None = None
    """Prompt and answer, when asked for and still kept."""
    text: TraceText | None = None
    """The edit or comment, when asked for and still kept."""


@dataclass(frozen=True, slots=True)
class Used:
    """Where a harvested feedback went."""

    harvest: Ref
    place: str
    """`file:line` of the harvested source."""
    fates: tuple[tuple[Ref, str], ...]
    """Dataset version -> what became of the row there, one sentence."""


class FeedbackVerbs:
    """What an operator asks of feedback."""

    def __init__(self, ports: Ports, live: Live) -> None:
        self._ports = ports
        self._live = live

    def list(
        self,
        *,
        status: ReviewStatus | None = "pending",
        kind: FeedbackKind | None = None,
        rollout: str | None = None,
        limit: int | None = 50,
        with_text: bool = False,
    ) -> Sequence[Shown]:
        """List feedback; what is pending comes in the order of review, all else oldest first.

        Looking at text is an event in the ledger.
        """
        ref = Ref.parse(rollout) if rollout else None
        found = self._live.traces.feedback(status=status, kind=kind, rollout=ref)
        queue = [(one.feedback, one.is_sample) for one in review_queue(found)]
        ordered = queue if status == "pending" else [(one, False) for one in found]
        chosen = ordered[:limit]
        if with_text and chosen:
            _note_look("review", len(chosen), "feedback", self._ports)
        return [self._shown(one, is_sample, with_text) for one, is_sample in chosen]

    def show(self, feedback: str, *, with_text: bool = False) -> Shown:
        """Show one feedback, by id or the beginning of it. Raises UnknownReference."""
        found = self._live.traces.get_feedback(feedback)
        if with_text:
            _note_look("review", 1, f"feedback:{found.id}", self._ports)
        return self._shown(found, False, with_text)

    def uses(self, feedback: str) -> Sequence[Used]:
        """Say in which harvests a feedback is, and what became of its row in each dataset version."""
        wanted = self._live.traces.get_feedback(feedback).id
        return [
            _used(one, wanted, self._ports, self.file_of(one))
            for one in list_records(self._ports.records, Harvest)
            if wanted in one.feedback
        ]

    def approve(
        self, feedback: Sequence[str], *, note: str = "", reviewer: str | None = None
    ) -> Sequence[Feedback]:
        """Approve feedback, so that the next harvest may take it; all of it or none.

        Raises:
            UnknownReference: no such feedback.
            UsageError: the reviewer wrote it, it is superseded, or a text is empty or too long.
        """
        return _decide(feedback, "approved", note, reviewer, self._ports, self._live)

    def reject(
        self, feedback: Sequence[str], *, note: str = "", reviewer: str | None = None
    ) -> Sequence[Feedback]:
        """Reject feedback; raises as `approve` does."""
        return _decide(feedback, "rejected", note, reviewer, self._ports, self._live)

    def import_(self, path: Path) -> Imported:
        """Read feedback from a JSONL or CSV file; importing the same rows again changes nothing.

        Raises:
            SourceUnreadable: the file cannot be read.
            UsageError: it is too large, or its header is not one.
        """
        return import_file(path, self._ports, self._live)

    def export(
        self,
        path: Path,
        form: FileFormat | None = None,
        *,
        status: ReviewStatus | None = None,
        with_text: bool = False,
    ) -> int:
        """Write feedback to a file, whole or not at all; returns the rows. Text is a look in the ledger.

        Raises:
            StorageError: the file cannot be written.
        """
        shown = self.list(status=status, limit=None)
        if with_text and shown:
            _note_look("export", len(shown), "feedback", self._ports)
            shown = [self._shown(one.feedback, one.is_sample, True) for one in shown]
        rows = [(one.feedback, export_row(one.said, one.text)) for one in shown]
        data = encode_rows(rows, form or format_of(path), texts=with_text)
        write_whole(path.absolute(), data, scratch=path.absolute().parent, mode=0o600)
        return len(rows)

    def harvest(self, recipe_path: Path) -> Harvest | None:
        """Make approved feedback a source of the recipe's next dataset version; None when there is none."""
        recipe = load_recipe(recipe_path)
        mask = make_mask(recipe.data)
        made = harvest(recipe.name, recipe.flywheel, self._ports, self._live, mask=mask)
        if made is not None:
            write_harvest(made, self._ports.blobs, self._live.harvest_dir)
        return made

    def left_out(self, recipe_path: Path) -> Mapping[str, int]:
        """Say why approved feedback would not be harvested now: reason -> feedback."""
        recipe = load_recipe(recipe_path)
        mask = make_mask(recipe.data)
        return survey(recipe.name, recipe.flywheel, self._ports, self._live, mask=mask).left_out

    def file_of(self, one: Harvest) -> Path:
        """Name the file of a harvest."""
        return harvest_path(one, self._live.harvest_dir)

    def _shown(self, one: Feedback, is_sample: bool, with_text: bool) -> Shown:
        traces, now = self._live.traces, self._ports.clock()
        try:
            trace = traces.get(one.trace)
        except UnknownReference:  # its time is over
            trace = None
        if not with_text:
            return Shown(one, is_sample, trace)
        text = traces.text(one.id, now) if one.has_text else None
        return Shown(one, is_sample, trace, traces.text(one.trace, now), text)


def _decide(
    feedback: Sequence[str], decision: Decision, note: str, reviewer: str | None, ports: Ports, live: Live
) -> Sequence[Feedback]:
    """Check all decisions, then take them."""
    who = (reviewer or ports.actor).strip()
    found = {one.id: one for one in map(live.traces.get_feedback, feedback)}
    for one in found.values():
        check_review(one, who, note, live.keys)
    return [
        decide(one, decision, reviewer=who, note=note, ports=ports, traces=live.traces)
        for one in found.values()
    ]


def _used(one: Harvest, feedback: str, ports: Ports, path: Path) -> Used:
    line = one.feedback.index(feedback) + 1
    fates = [
        (dataset.ref, answer.sentence)
        for dataset in list_records(ports.records, DatasetVersion)
        if any(source.digest == one.blob for source in dataset.sources)
        for answer in why(f"{path.name}:{line}", dataset, ports.blobs)
    ]
    return Used(one.ref, f"{path}:{line}", tuple(fates))


def _note_look(purpose: str, count: int, subject: str, ports: Ports) -> None:
    """Write down that text is read, before it is."""
    ports.records.append(
        EventDraft(
            kind="look",
            actor=ports.actor,
            subject=subject,
            detail={"purpose": purpose, "feedback": count},
        )
    )
