"""From answers to evidence, and from evidence to what a report tells people. Pure."""

import json
from collections.abc import Iterator, Sequence

from tunewright.core.scorers import Answer
from tunewright.evals.arms import Answered
from tunewright.evals.evidence import ArmEvidence, Metric, Parity
from tunewright.evals.facts import consistency_ceiling, similarity_facts, slice_facts
from tunewright.evals.few_shot import OpenRows
from tunewright.evals.inputs import Inputs
from tunewright.evals.items import prompt_digest
from tunewright.evals.suites import Suite, score_suite
from tunewright.records import Arm
from tunewright.values import Json, canonical_json

ORDER: tuple[Arm, ...] = ("candidate", "base", "few_shot", "nearest_example", "incumbent")


def arm_evidence(suites: Sequence[Suite], answered: Answered) -> tuple[ArmEvidence, ...]:
    """Score every arm's answers."""
    return tuple(
        ArmEvidence(
            arm=arm,
            model=answered.models[arm],
            prompts={
                suite.name: {
                    row: prompt_digest(suite.examples[row]) for row in answered.outputs[arm][suite.name]
                }
                for suite in suites
            },
            values={
                key: values
                for suite in suites
                for key, values in score_suite(suite, answered.outputs[arm][suite.name]).items()
            },
        )
        for arm in ORDER
        if arm in answered.outputs
    )


def item_lines(suites: Sequence[Suite], answered: Answered, arms: Sequence[ArmEvidence]) -> bytes:
    """Write JSON lines {row, arm, suite, output, scores} of every item and arm."""
    return b"".join(canonical_json(line) + b"\n" for line in _lines(suites, answered, arms))


def _lines(
    suites: Sequence[Suite], answered: Answered, arms: Sequence[ArmEvidence]
) -> Iterator[dict[str, Json]]:
    for arm in arms:
        for suite in suites:
            for row, answer in answered.outputs[arm.arm][suite.name].items():
                scores: dict[str, Json] = {
                    bound.metric: list(arm.values[f"{suite.name}/{bound.metric}"][row])
                    for bound in suite.scorers
                    if row in arm.values[f"{suite.name}/{bound.metric}"]
                }
                yield {
                    "row": row,
                    "arm": arm.arm,
                    "suite": suite.name,
                    "output": _storable(answer),
                    "scores": scores,
                }


def report_facts(
    inputs: Inputs,
    suites: Sequence[Suite],
    rows: OpenRows,
    answered: Answered,
    arms: Sequence[ArmEvidence],
    *,
    metrics: Sequence[Metric],
    lineage: bytes,
) -> dict[str, Json]:
    """Collect what is said beside the verdict; none of it decides anything."""
    similarity = {
        suite: {row: found.similarity for row, found in nearest.items()}
        for suite, nearest in answered.nearest.items()
    }
    items = {suite.name: suite.items for suite in suites}
    return {
        "decoding": {"temperature": 0, "max_new_tokens": inputs.recipe.gate.max_new_tokens},
        "incumbent": inputs.incumbent.model.adapter if inputs.incumbent else None,
        "suites": {suite.name: _suite_facts(suite, inputs) for suite in suites},
        "scorers": _scorer_facts(suites),
        "missing_arms": {str(arm): why for arm, why in answered.missing.items()},
        "stop_rate": _stop_rates(answered),
        "by_similarity_to_train": similarity_facts(metrics, arms, similarity),
        "slices": slice_facts(metrics, arms, items),
        "label_consistency": _ceiling(suites, rows, lineage),
        **answered.facts,
    }


def parity_facts(parity: Parity, num_reference_rows: int) -> dict[str, Json]:
    """Say what parity was checked on, and what was not."""
    return {
        "rows_and_edge_cases": parity.num_rows,
        "token_mismatches": list(parity.token_mismatches),
        "logprobs": "not compared: the candidate carries no reference log-probabilities of its trainer"
        if parity.max_logprob_difference is None
        else f"{num_reference_rows} rows, largest difference {parity.max_logprob_difference:.2g}",
        "tolerance": parity.tolerance,
    }


def _suite_facts(suite: Suite, inputs: Inputs) -> Json:
    file = inputs.files.get(suite.name)
    return {
        "rows": len(suite.items),
        "clusters": len({item.cluster for item in suite.items}),
        "source": "sealed held-out rows" if file is None else f"{suite.spec.path} ({file.digest[:12]})",
    }


def _scorer_facts(suites: Sequence[Suite]) -> dict[str, Json]:
    return {
        f"{suite.name}/{bound.metric}": {
            "kind": bound.scorer.name,
            "version": bound.scorer.version,
            "hash": bound.digest,
            "unreadable_references": bound.num_unusable,
        }
        for suite in suites
        for bound in suite.scorers
    }


def _stop_rates(answered: Answered) -> dict[str, Json]:
    rates: dict[str, Json] = {}
    for arm, outputs in answered.outputs.items():
        reasons = [answer.finish_reason for answers in outputs.values() for answer in answers.values()]
        if reasons and all(reason is not None for reason in reasons):
            rates[arm] = sum(reason == "stop" for reason in reasons) / len(reasons)
    return rates


def _ceiling(suites: Sequence[Suite], rows: OpenRows, lineage: bytes) -> dict[str, Json]:
    """Judge consistency over all kept rows, by the scorers of the first suite on the sealed rows."""
    suite = next((suite for suite in suites if suite.spec.path is None), None)
    if suite is None:
        return {}
    weights = {str(line["row"]): len(line["sources"]) for line in map(json.loads, lineage.splitlines())}
    everything = [*rows.train, *rows.validation, *suite.examples.values()]
    return consistency_ceiling(suite.scorers, everything, weights)


def _storable(answer: Answer) -> str:
    """The text without lone surrogates, which a byte-level tokenizer can leave and JSON cannot carry."""
    return answer.text.encode("utf-8", errors="replace").decode("utf-8")
