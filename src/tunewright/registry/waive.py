"""Waivers: a person takes responsibility, by name and with a reason, for a verdict that is not `pass`."""

from tunewright.core.ledger import WAIVE_EVENT
from tunewright.core.references import get_record
from tunewright.errors import GateNotPassed, UsageError
from tunewright.ports import Ports, Records
from tunewright.records import EvalReport, EventDraft, LedgerEvent, Waiver
from tunewright.values import Digest, Ref, node


def waive(evaluation: Ref, reason: str, author: str, ports: Ports) -> Waiver:
    """Record a waiver for exactly the candidate and the held-out rows of one evaluation.

    Raises:
        UnknownReference: no such evaluation.
        UsageError: reason or author is empty, or the verdict is `pass` and needs no waiver.
    """
    report = get_record(ports.records, EvalReport, evaluation)
    if not reason.strip() or not author.strip():
        raise UsageError(f"a waiver of evaluation {evaluation} needs a reason and a name; expected both")
    if report.verdict == "pass":
        raise UsageError(
            f"evaluation {evaluation} passed; expected a verdict that needs a waiver. Register it."
        )
    event = ports.records.append(
        EventDraft(
            kind=WAIVE_EVENT,
            actor=author.strip(),
            subject=node("evaluation", evaluation),
            detail={
                "candidate": report.candidate,
                "held_out": report.held_out,
                "verdict": report.verdict,
                "reason": reason.strip(),
            },
        )
    )
    return _read(event, report)


def is_waived(report: EvalReport, ports: Ports) -> bool:
    """Say whether a waiver for exactly this evaluation and candidate is in the ledger."""
    return find_waiver(report, ports.records) is not None


def find_waiver(report: EvalReport, records: Records) -> Waiver | None:
    """Read the newest waiver that fits this evaluation, its candidate and its held-out rows."""
    for event in reversed(records.events(kind=WAIVE_EVENT, subject=node("evaluation", report.ref))):
        fits = event.detail.get("candidate") == report.candidate
        if fits and event.detail.get("held_out") == report.held_out:
            return _read(event, report)
    return None


def require_permission(
    report: EvalReport, *, candidate: Digest, held_out: Digest, records: Records
) -> Waiver | None:
    """Let through what passed for exactly this candidate and these held-out rows, or what was waived.

    Returns:
        The waiver that permits it; None where the verdict is `pass`.

    Raises:
        GateNotPassed: neither holds.
    """
    if report.candidate != candidate or report.held_out != held_out:
        raise GateNotPassed(
            f"evaluation {report.ref} judged candidate {report.candidate[:12]} on held-out rows "
            f"{report.held_out[:12]}; expected candidate {candidate[:12]} on {held_out[:12]}. Evaluate again."
        )
    if report.verdict == "pass":
        return None
    waiver = find_waiver(report, records)
    if waiver is None:
        why = "; ".join(report.reasons) or "no reason was recorded"
        raise GateNotPassed(
            f"evaluation {report.ref} of candidate {candidate[:12]}: verdict {report.verdict} ({why}); "
            "expected pass. Improve data or training and run again, or take responsibility with "
            f"`tunewright models waive {report.ref} --reason TEXT`."
        )
    return waiver


def _read(event: LedgerEvent, report: EvalReport) -> Waiver:
    return Waiver(
        evaluation=report.ref,
        candidate=report.candidate,
        reason=str(event.detail.get("reason")),
        author=event.actor,
        at=event.at,
    )
