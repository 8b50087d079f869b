"""The numbers of a dataset version's report, for its card and its page. Pure; never text of a row."""

from collections import Counter
from collections.abc import Mapping, Sequence

from tunewright.curate.decide import Decided
from tunewright.curate.gather import Gathered
from tunewright.records import Example, Rejection, SourceCount
from tunewright.values import Json

LARGE_LOSS_FRACTION = 0.5
"""Share of a source's rows above which their removal is worth a warning."""


def facts_of(gathered: Gathered, decided: Decided) -> dict[str, Json]:
    """Collect what the card says about rows, likeness, personal data and lengths."""
    kept = [row.example for row in decided.kept]
    removed = [*gathered.rejections, *decided.rejections]
    return {
        "removed_by_step": _counts(Counter(rejection.step for rejection in removed)),
        "forms": _counts(Counter(row.form for row in gathered.rows)),
        "personal_data": _personal_data(gathered),
        "conflicts": _conflicts(decided),
        "split": _split(decided),
        "contamination": _contamination(decided),
        "prompt_chars": length_histogram([_prompt_chars(example) for example in kept]),
        "answer_chars": length_histogram([len(example.answer) for example in kept]),
        "distinct_answers": len({example.answer for example in kept}),
        "rows_without_group": sum(example.group is None for example in kept),
    }


def warnings_of(sources: Sequence[SourceCount], decided: Decided) -> tuple[str, ...]:
    """Say what a person should know before training."""
    found = list(decided.warnings)
    for source in sources:
        lost = source.rows_in - source.rows_kept
        if lost > LARGE_LOSS_FRACTION * source.rows_in:
            reason, rows = max(source.removed.items(), key=lambda item: (item[1], item[0]))
            found.append(
                f"{source.path} lost {lost:,} of {source.rows_in:,} rows, most ({rows:,}) as {reason}."
            )
    if len({row.example.answer for row in decided.kept}) == 1:
        found.append("All kept rows have the same answer; there is nothing to learn from them.")
    return tuple(found)


def removed_by_reason(rejections: Sequence[Rejection]) -> dict[str, int]:
    """Count rejections by reason, sorted."""
    return dict(sorted(Counter(rejection.reason for rejection in rejections).items()))


def length_histogram(lengths: Sequence[int]) -> dict[str, Json]:
    """Count lengths in bins that double: `<=16`, `<=32`, ...; empty bins are left out."""
    bins = Counter(max(4, (length - 1).bit_length()) if length else 4 for length in lengths)
    return {f"<={2**exponent}": bins[exponent] for exponent in sorted(bins)}


def _prompt_chars(example: Example) -> int:
    return sum(len(turn.content) for turn in example.prompt)


def _counts(counts: Mapping[str, int]) -> dict[str, Json]:
    return {name: counts[name] for name in sorted(counts)}


def _personal_data(gathered: Gathered) -> dict[str, Json]:
    masked: Counter[str] = Counter()
    for row in gathered.rows:
        masked.update(row.found)
    dropped = Counter(one.reason for one in gathered.rejections if one.step == "pii")
    return {"masked_values": _counts(masked), "dropped_rows": _counts(dropped)}


def _conflicts(decided: Decided) -> dict[str, Json]:
    conflicts = decided.findings.conflicts
    return {
        "prompts": conflicts.conflicting_prompts,
        "rows": conflicts.conflicting_rows,
        "near_pairs": conflicts.near_conflicting_pairs,
        "consistency_ceiling": round(conflicts.consistency_ceiling, 6),
        "repeated_rows": conflicts.repeated_rows,
        "repeated_consistency": (
            None if conflicts.repeated_consistency is None else round(conflicts.repeated_consistency, 6)
        ),
    }


def _split(decided: Decided) -> dict[str, Json]:
    split = decided.findings.split
    return {
        "recorded_rows": split.recorded_rows,
        "joined_rows": split.joined_rows,
        "new_clusters": split.new_clusters,
        "new_clusters_held_out": split.new_clusters_held_out,
        "bridging_rows": split.bridging_rows,
        "bridging_fraction": round(split.bridging_fraction, 6),
        "largest_cluster_rows": split.largest_cluster_rows,
    }


def _contamination(decided: Decided) -> dict[str, Json]:
    found = decided.findings.contamination
    return {
        "lexical_threshold": found.threshold,
        "quarantined_rows": len(found.quarantined),
        "hits": found.num_hits,
        "hit_fraction": round(found.hit_fraction, 6),
        "hits_over_cap": found.num_over_cap,
        "clean_rows_fitted_on": found.num_clean,
    }
