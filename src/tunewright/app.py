"""Composition root: chooses the backends by URL scheme and offers the verbs that CLI and Python call.

The only module that imports by string: a scheme maps to `module:factory`, so that nothing heavy is loaded
before it is needed.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tunewright.backends.base_models import LocalBases
from tunewright.backends.file_lock import file_lock
from tunewright.backends.live_secret import load_live_keys
from tunewright.backends.local_executor import LocalExecutor
from tunewright.backends.signer import LocalSigner
from tunewright.backends.vault import LocalVault
from tunewright.core.references import list_records
from tunewright.errors import SettingsError, UnknownReference
from tunewright.live_ports import Live
from tunewright.pipeline.advise import Advised, advise_recipe
from tunewright.pipeline.dataset_verbs import DatasetVerbs
from tunewright.pipeline.doctor import Finding, examine
from tunewright.pipeline.feedback_verbs import FeedbackVerbs
from tunewright.pipeline.flow import Outcome, Stage, run_recipe
from tunewright.pipeline.harvested import with_harvests
from tunewright.pipeline.key_verbs import KeyVerbs
from tunewright.pipeline.load import load_recipe
from tunewright.pipeline.model_verbs import ModelVerbs
from tunewright.pipeline.plan import Plan, plan_recipe
from tunewright.pipeline.report import Section, write_report
from tunewright.pipeline.rollout_start import what_next
from tunewright.pipeline.rollout_verbs import RolloutVerbs
from tunewright.pipeline.trace_verbs import TraceVerbs
from tunewright.pipeline.trial import SideBySide, chats_to_try, side_by_side
from tunewright.ports import Ports, Progress
from tunewright.records import Record, TrainingRun
from tunewright.settings import Settings
from tunewright.values import Ref, utc_now

RECORDS = {
    "sqlite": "tunewright.backends.sql_records:open_records",
    "postgresql+psycopg": "tunewright.backends.sql_records:open_records",
}
BLOBS = {"file": "tunewright.backends.file_blobs:open_blobs"}
FSSPEC_BLOBS = "tunewright.backends.file_blobs:open_fsspec_blobs"
TRACES = "tunewright.backends.sql_traces:open_traces"
ENGINES = "tunewright.backends.engine.launcher:LocalEngines"


def open_app(settings: Settings, progress: Progress) -> "App":
    """Open a workspace; use the result as a context manager.

    Raises:
        SettingsError: no backend serves a URL's scheme.
        StorageError: the workspace cannot be written, or lies on a network file system.
    """
    return App(settings, progress)


class App:
    """One workspace with its backends, and the verbs that act on it."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings = settings
        self._progress = progress

    def __enter__(self) -> Self:
        """Nothing is opened before it is needed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the databases that were opened."""
        if "live" in self.__dict__:
            self.live.traces.close()
        if "ports" in self.__dict__:
            self._records.close()

    @cached_property
    def ports(self) -> Ports:
        """Every backend, chosen and connected."""
        settings = self.settings
        blobs = _factory(_scheme_of(settings.blobs_url, BLOBS, FSSPEC_BLOBS))(settings.blobs_url)
        return Ports(
            records=self._records,
            blobs=blobs,
            vault=LocalVault(self._records, settings.workspace, settings.config_dir),
            signer=LocalSigner(settings.workspace, settings.config_dir),
            bases=self._bases,
            executor=LocalExecutor(threads=settings.threads, passed_on=settings.accelerator),
            engines=_factory(ENGINES)(threads=settings.threads, passed_on=settings.accelerator),
            progress=self._progress,
            clock=utc_now,
            data_root=settings.data_root or Path.cwd(),
            runs_dir=settings.workspace / "runs",
            actor=settings.actor,
        )

    @cached_property
    def live(self) -> Live:
        """Trace store and keys of the live half; makes both for a workspace that never served."""
        workspace = self.settings.workspace
        keys = load_live_keys(workspace, self.settings.config_dir)
        traces = _factory(TRACES)(workspace / "traces.db", keys)
        return Live(traces=traces, keys=keys, harvest_dir=self._harvest_dir)

    @property
    def _harvest_dir(self) -> Path:
        return self.settings.workspace / "harvest"

    @cached_property
    def _records(self) -> Any:  # Any: whatever the factory named by the URL's scheme makes
        url = self.settings.records_url
        return _factory(_scheme_of(url, RECORDS, None))(url)

    @cached_property
    def _bases(self) -> LocalBases:
        return self._bases_beside(None)

    def _bases_beside(self, folder: Path | None) -> LocalBases:
        cache = self.settings.workspace / "base-hashes.json"
        return LocalBases(hub_cache=self.settings.hub_cache, hash_cache=cache, beside=folder)

    def run(
        self, recipe_path: Path, *, until: Stage = "register", extra: Sequence[Section] = ()
    ) -> tuple[Outcome, Path]:
        """Walk a recipe as far as asked and write the report; a second process with the same recipe waits."""
        recipe = load_recipe(recipe_path)
        ports = self._at(recipe_path)
        locks = self.settings.workspace / "locks"
        with file_lock(locks, f"run-{recipe.content_digest()[:16]}", on_wait=self._say_waiting):
            outcome = run_recipe(recipe, ports, harvest_dir=self._harvest_dir, until=until)
        newest = outcome.report or outcome.run or outcome.dataset
        path = self.settings.workspace / "reports" / f"{newest.ref}-{until}.html"
        return outcome, write_report(outcome, path, extra=extra)

    def follow(self, outcome: Outcome) -> Outcome:
        """Wait until the rollout of a walk is promoted, rolled back or held; without one, return at once."""
        if outcome.rollout is None:
            return outcome
        state = self.rollouts.follow(outcome.rollout.ref)
        return replace(outcome, rollout_state=state, next=what_next(outcome.rollout, state))

    def plan(self, recipe_path: Path) -> Plan:
        """Forecast a recipe without running it."""
        recipe, ports = load_recipe(recipe_path), self._at(recipe_path)
        recipe = with_harvests(recipe, ports, self._harvest_dir)
        return plan_recipe(recipe, ports, threads=self.settings.threads)

    def advise(self, recipe_path: Path) -> Advised:
        """Say whether fine-tuning is the right tool for a recipe."""
        recipe, ports = load_recipe(recipe_path), self._at(recipe_path)
        return advise_recipe(with_harvests(recipe, ports, self._harvest_dir), ports)

    def try_model(self, name: str, prompts: Sequence[str]) -> list[SideBySide]:
        """Answer prompts (or validation rows) with base and tuned model."""
        model = self.models.find(name)
        chats = chats_to_try(model, self.ports, prompts=prompts)
        return side_by_side(model, chats, self.ports)

    def doctor(self) -> list[Finding]:
        """Examine this machine."""
        settings = self.settings
        return examine(
            self._bases,
            workspace=settings.workspace,
            config_dir=settings.config_dir,
            threads=settings.threads,
        )

    def find(self, kind: str, name: str) -> Record:
        """Read a record by `name@version`, or the latest by `name`. Raises UnknownReference."""
        if "@" in name:
            return self.ports.records.get(kind, Ref.parse(name))
        latest = self.ports.records.latest(kind, name)
        if latest is None:
            known = sorted({str(r.to_json()["ref"]) for r in self.ports.records.list(kind)})
            if not known:
                raise UnknownReference(
                    f"no {kind} {name!r}: the workspace {self.settings.workspace} holds none yet. "
                    "`tunewright run RECIPE` makes one; --workspace names another."
                )
            raise UnknownReference(f"no {kind} {name!r}; expected one of: {', '.join(known)}")
        return latest

    def runs(self) -> list[TrainingRun]:
        """List all training runs, oldest first."""
        return list_records(self.ports.records, TrainingRun)

    def find_run(self, name: str) -> TrainingRun:
        """Read a run by `name@version`, or the latest by `name`. Raises UnknownReference."""
        run = self.find("run", name)
        assert isinstance(run, TrainingRun)
        return run

    @cached_property
    def data(self) -> DatasetVerbs:
        """Verbs on datasets."""
        return DatasetVerbs(self.ports, self.find)

    @cached_property
    def models(self) -> ModelVerbs:
        """Verbs on models."""
        return ModelVerbs(self.ports, self.find)

    @cached_property
    def rollouts(self) -> RolloutVerbs:
        """Verbs on rollouts."""
        return RolloutVerbs(self.ports, lambda: self.live, self.find)

    @cached_property
    def keys(self) -> KeyVerbs:
        """Verbs on API keys."""
        return KeyVerbs(self.ports)

    @cached_property
    def traces(self) -> TraceVerbs:
        """Verbs on traces."""
        return TraceVerbs(self.ports, self.live)

    @cached_property
    def feedback(self) -> FeedbackVerbs:
        """Verbs on feedback."""
        return FeedbackVerbs(self.ports, self.live)

    def _at(self, recipe_path: Path) -> Ports:
        """Ports whose relative paths start at --data, or at the recipe's folder; bases there come first."""
        beside = recipe_path.absolute().parent
        bases = self._bases_beside(beside)
        return replace(self.ports, data_root=self.settings.data_root or beside, bases=bases)

    def _say_waiting(self) -> None:
        self._progress.finish("another process runs this recipe in this workspace; waiting for it to finish")


def _scheme_of(url: str, known: dict[str, str], otherwise: str | None) -> str:
    scheme = urlsplit(url).scheme
    found = known.get(scheme, otherwise)
    if found is None:
        raise SettingsError(f"no backend for {url!r}; expected a URL that starts with {', '.join(known)}")
    return found


def _factory(name: str) -> Any:  # Any: the factory of a backend chosen by its scheme
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
