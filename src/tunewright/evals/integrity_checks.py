"""Three checks before any score: contamination, pairing of the arms, parity of trainer and engine."""

from collections.abc import Mapping

from tunewright.evals.evidence import ArmEvidence, Contamination, Evidence, Item, Parity
from tunewright.evals.wording import listed, percent
from tunewright.records import Check, Verdict


def dirty_rows(contamination: Contamination) -> frozenset[str]:
    """Return the held-out rows that training may have seen."""
    return frozenset(contamination.dirty_rows) | frozenset(contamination.exact_rows)


def contamination_check(contamination: Contamination, max_dirty_fraction: float) -> Check:
    """Judge what was recomputed from the tokens really trained: void, or pass with dirty rows left out."""
    dirty = len(dirty_rows(contamination))
    share = dirty / contamination.num_rows if contamination.num_rows else None
    reason = _void_reason(contamination, max_dirty_fraction)
    return Check(
        name="contamination",
        metric="dirty_fraction",
        kind="contamination",
        estimate=share,
        low=None,
        high=None,
        margin=max_dirty_fraction,
        n=contamination.num_rows,
        method="recomputed from the trained tokens",
        verdict="pass" if reason is None else "void",
        sentence=f"contamination: {reason or _clean_words(contamination, dirty)}.",
    )


def _void_reason(contamination: Contamination, max_dirty_fraction: float) -> str | None:
    total = contamination.num_rows
    if contamination.chain_breaks:
        return f"what was trained on cannot be proven: {'; '.join(contamination.chain_breaks)}"
    if total == 0:
        return "no held-out row was compared with what was trained on"
    if contamination.exact_rows:
        found = f"{len(contamination.exact_rows)} of {total:,} held-out rows"
        return f"{found} were trained on word for word ({listed(contamination.exact_rows)})"
    dirty = tuple(sorted(dirty_rows(contamination)))
    if len(dirty) > max_dirty_fraction * total:
        found = f"{len(dirty)} of {total:,} held-out rows ({percent(len(dirty) / total)})"
        limit = f"above the limit of {percent(max_dirty_fraction)}"
        return f"{found} are near-duplicates of trained rows, {limit} ({listed(dirty)})"
    return None


def _clean_words(contamination: Contamination, dirty: int) -> str:
    total = contamination.num_rows
    if dirty == 0:
        return f"none of {total:,} held-out rows was seen in training"
    rows = listed(tuple(sorted(dirty_rows(contamination))))
    return (
        f"{dirty} of {total:,} held-out rows ({percent(dirty / total)}) are near-duplicates of trained rows "
        f"and left every arm ({rows})"
    )


def pairing_check(evidence: Evidence) -> Check:
    """Refuse to compare arms that were not scored on the same rows with the same prompts."""
    problems = [
        problem
        for suite, items in evidence.items.items()
        for arm in evidence.arms
        if (problem := _unpaired(suite, items, arm, evidence)) is not None
    ]
    num_rows = sum(len(items) for items in evidence.items.values())
    paired = f"all {len(evidence.arms)} arms were scored on the same {num_rows:,} rows with equal prompts"
    return Check(
        name="pairing",
        metric="pairing",
        kind="pairing",
        estimate=None,
        low=None,
        high=None,
        n=num_rows,
        method="row ids and prompt digests",
        verdict="void" if problems else "pass",
        sentence=f"pairing: {'; '.join(problems) or paired}.",
    )


def _unpaired(suite: str, items: tuple[Item, ...], arm: ArmEvidence, evidence: Evidence) -> str | None:
    prompts: Mapping[str, str] = arm.prompts.get(suite, {})
    expected = {item.row: item.prompt_digest for item in items}
    scored = {
        row for metric in evidence.metrics if metric.suite == suite for row in arm.values.get(metric.key, {})
    }
    if not prompts and not scored:
        return None
    odd = tuple(sorted((expected.keys() ^ prompts.keys()) | (scored - expected.keys())))
    if odd:
        return f"{arm.arm} was not scored on the rows of suite {suite} ({listed(odd)} differ)"
    changed = tuple(sorted(row for row, digest in expected.items() if prompts[row] != digest))
    if changed:
        return f"{arm.arm} was asked other prompts in suite {suite} ({listed(changed)} differ)"
    return None


def parity_check(parity: Parity) -> Check:
    """Judge whether the engine feeds and scores the same tokens as the trainer did."""
    verdict, words = _parity_words(parity)
    return Check(
        name="parity",
        metric="max_logprob_difference",
        kind="parity",
        estimate=parity.max_logprob_difference,
        low=None,
        high=None,
        margin=parity.tolerance,
        n=parity.num_rows,
        method="token ids and log-probabilities through the wire",
        verdict=verdict,
        sentence=f"parity: {words}.",
    )


def _parity_words(parity: Parity) -> tuple[Verdict, str]:
    if parity.num_rows == 0:
        return "inconclusive", "no row was compared between trainer and engine"
    if parity.token_mismatches:
        rows = listed(parity.token_mismatches)
        found = f"{len(parity.token_mismatches)} of {parity.num_rows} rows"
        return "fail", f"the engine feeds other tokens than the trainer did for {found} ({rows})"
    difference = parity.max_logprob_difference
    if difference is None:
        return "inconclusive", "tokens are equal, but no log-probability was compared"
    compared = f"log-probabilities of {parity.num_rows} rows differ by at most {difference:.2g}"
    if difference > parity.tolerance:
        return "fail", f"{compared}, above the tolerance of {parity.tolerance:g}"
    return "pass", f"tokens are equal and {compared} (tolerance {parity.tolerance:g})"
