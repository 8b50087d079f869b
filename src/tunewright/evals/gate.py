"""The gate's decision: evidence in, verdict with reasons out. Pure; a failing gate is a result, not an error.

The burden of proof is on the candidate: a requirement passes when its one-sided bound at alpha says so, fails
when the opposite is shown, and is inconclusive otherwise, with the number of rows that would settle it.
Printed intervals are two-sided at 1 - 2 alpha, so that each end is the one-sided bound that decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.stats import holm
from tunewright.errors import EvaluationError
from tunewright.evals.checks import answer, unanswered
from tunewright.evals.estimates import DISPLAY_REPLICATES, Precision, align, score
from tunewright.evals.evidence import ArmEvidence, Evidence, Metric
from tunewright.evals.integrity_checks import contamination_check, dirty_rows, pairing_check, parity_check
from tunewright.evals.questions import Bench, Question
from tunewright.evals.requirements import against, describe, effective_requirements, require_known_slices
from tunewright.evals.slices import exploratory_slice_checks, required_slice_checks
from tunewright.evals.wording import p_value
from tunewright.recipe import GateSection, Requirement
from tunewright.records import ArmScores, Check, Interval, Verdict

_WORST_FIRST: tuple[Verdict, ...] = ("void", "fail", "inconclusive", "pass")
_NO_CHAMPION = "no champion"
"""What the reason of a missing incumbent says when there is nothing to compare with yet."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate decided, and on what grounds."""

    verdict: Verdict
    checks: tuple[Check, ...]
    arms: tuple[ArmScores, ...]
    """Empty when void: then no number shown could be trusted."""
    reasons: tuple[str, ...]
    """Sentences: what stands in the way, or that all holds; then what cannot be known."""


def decide(evidence: Evidence, gate: GateSection) -> Decision:
    """Decide whether a candidate may be registered.

    Contamination and pairing come first and can make the verdict void; then nothing else is answered.
    Otherwise dirty rows leave every arm, each requirement is answered on all rows and on required slices, and
    the worst required answer is the verdict: fail before inconclusive before pass.

    Args:
        evidence: items, per-item values of every arm, contamination and parity findings.
        gate: the recipe's section; without requirements the first metric of the first suite must be better
            than the base and not worse than the incumbent.

    Returns:
        The verdict, every check with a sentence, every arm's metrics with intervals, and the reasons.

    Raises:
        RecipeError: a requirement or required slice names something that was not measured.
        EvaluationError: the evidence holds no candidate.
    """
    requirements = effective_requirements(gate, evidence.metrics)
    require_known_slices(gate, evidence.items)
    _require_candidate(evidence)
    integrity = (
        contamination_check(evidence.contamination, gate.max_dirty_fraction),
        pairing_check(evidence),
        parity_check(evidence.parity),
    )
    bench = _bench(evidence, gate)
    if any(check.verdict == "void" for check in integrity):
        checks = (*integrity, *(_voided(bench, requirement) for requirement in requirements))
        return Decision("void", checks, (), _reasons("void", checks, evidence, gate.alpha))
    checks = (
        *integrity,
        *(_answer(bench, requirement) for requirement in requirements),
        *_nothing_asked(bench, requirements),
        *required_slice_checks(bench, _binding(bench, requirements), gate.required_slices),
        *exploratory_slice_checks(bench, requirements, gate.required_slices),
    )
    verdict = worst(checks)
    return Decision(
        verdict, checks, _arm_scores(bench, evidence), _reasons(verdict, checks, evidence, gate.alpha)
    )


def worst(checks: Sequence[Check]) -> Verdict:
    """Return the worst verdict among required checks, of which there is at least one."""
    verdicts: list[Verdict] = [check.verdict for check in checks if check.required]
    return min(verdicts, key=_WORST_FIRST.index)


def _require_candidate(evidence: Evidence) -> None:
    if all(arm.arm != "candidate" for arm in evidence.arms):
        found = ", ".join(arm.arm for arm in evidence.arms) or "none"
        raise EvaluationError(
            f"the evidence has no arm `candidate` (found: {found}). Evaluate the candidate first."
        )


def _bench(evidence: Evidence, gate: GateSection) -> Bench:
    dirty = dirty_rows(evidence.contamination)
    return Bench(
        items={
            suite: tuple(item for item in items if item.row not in dirty)
            for suite, items in evidence.items.items()
        },
        metrics={metric.key: metric for metric in evidence.metrics},
        arms={arm.arm: arm for arm in evidence.arms},
        missing_arms=evidence.missing_arms,
        alpha=gate.alpha,
        power=gate.power,
    )


def _is_first(bench: Bench, requirement: Requirement) -> bool:
    """Say whether a requirement compares with an incumbent that does not exist yet."""
    reason = bench.missing_arms.get("incumbent", "")
    is_absent = "incumbent" not in bench.arms and _NO_CHAMPION in reason.lower()
    return against(requirement) == "incumbent" and is_absent


def _binding(bench: Bench, requirements: Sequence[Requirement]) -> tuple[Requirement, ...]:
    return tuple(requirement for requirement in requirements if not _is_first(bench, requirement))


def _answer(bench: Bench, requirement: Requirement) -> Check:
    if not _is_first(bench, requirement):
        return answer(bench, requirement)
    question = Question(bench, requirement)
    sentence = (
        f"{question.subject}: {describe(requirement)} is not required, because "
        f"{bench.missing_arms['incumbent']}."
    )
    check = unanswered(question, bench.missing_arms["incumbent"])
    return check.model_copy(update={"kind": "information", "required": False, "sentence": sentence})


def _nothing_asked(bench: Bench, requirements: Sequence[Requirement]) -> tuple[Check, ...]:
    """Withhold a pass where every requirement waits for a champion: then nothing was proven."""
    if _binding(bench, requirements):
        return ()
    check = unanswered(Question(bench, requirements[0]), "it is the only kind of requirement")
    sentence = (
        "nothing was proven: every requirement compares with the incumbent, and there is none yet. "
        "Add an at_least or a better_than base requirement."
    )
    name = "something to prove"
    return (check.model_copy(update={"name": name, "kind": "information", "sentence": sentence}),)


def _voided(bench: Bench, requirement: Requirement) -> Check:
    check = unanswered(Question(bench, requirement), "the comparison is void")
    return check.model_copy(update={"verdict": "void"})


def _arm_scores(bench: Bench, evidence: Evidence) -> tuple[ArmScores, ...]:
    return tuple(
        ArmScores(arm=arm.arm, model=arm.model, metrics=_metrics(bench, arm, evidence.metrics))
        for arm in evidence.arms
    )


def _metrics(bench: Bench, arm: ArmEvidence, metrics: Sequence[Metric]) -> dict[str, Interval]:
    found: dict[str, Interval] = {}
    for metric in metrics:
        interval = _interval(bench, arm, metric)
        if interval is not None:
            found[metric.name if metric.suite == "held_out" else metric.key] = interval
    return found


def _interval(bench: Bench, arm: ArmEvidence, metric: Metric) -> Interval | None:
    """Bound one arm's metric; nothing where it has too few values or is undefined."""
    aligned = align(bench.items.get(metric.suite, ()), metric.key, [arm])
    if aligned.num_clusters < 2:
        return None
    try:
        found = score(aligned, metric, Precision(bench.level, DISPLAY_REPLICATES))
    except ValueError:
        return None
    return Interval(
        estimate=found.value,
        low=found.low,
        high=found.high,
        n=aligned.num_rows,
        clusters=aligned.num_clusters,
        method=found.method,
    )


def _reasons(verdict: Verdict, checks: Sequence[Check], evidence: Evidence, alpha: float) -> tuple[str, ...]:
    required = [check for check in checks if check.required]
    if verdict == "pass":
        main = [f"All {len(required)} required checks hold."]
    else:
        decisive = [check for check in required if check.verdict != "pass"]
        if verdict == "void":
            decisive = [check for check in decisive if check.kind in ("contamination", "pairing")]
        ranked = sorted(decisive, key=lambda check: _WORST_FIRST.index(check.verdict))
        main = [f"{check.verdict}: {check.sentence}" for check in ranked]
    unknown = [f"Not known: {sentence}" for sentence in evidence.contamination.unknown]
    return (*main, *_claims(required, alpha), *unknown)


def _claims(checks: Sequence[Check], alpha: float) -> list[str]:
    """Say which claims of improvement survive Holm's correction, where several are made."""
    claims = [check for check in checks if check.kind == "better_than" and check.p is not None]
    if len(claims) < 2:
        return []
    adjusted = holm([check.p for check in claims if check.p is not None])
    kept = [
        f"{check.name} (p {p_value(p)})"
        for check, p in zip(claims, adjusted, strict=True)
        if check.verdict == "pass" and p <= alpha
    ]
    words = ", ".join(kept) or "none"
    return [f"Claims of improvement that survive Holm's correction over {len(claims)}: {words}."]
