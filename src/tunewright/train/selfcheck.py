"""Proofs at job start; each fails by name, before a step is spent.

Together they catch the silent failures of training: masks that cover nothing or everything, an end that is
never learnt, packing that leaks, accumulation that is normalised wrongly, an adapter that changes the base.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from tunewright.core.tokens import TokenRow
from tunewright.errors import EosNotSupervised, NothingSupervised, SelfCheckFailed
from tunewright.records import SelfCheck
from tunewright.train import attention
from tunewright.train.methods import Trainable
from tunewright.train.objectives import Objective
from tunewright.train.packed import micro_batch

SAMPLE_ROWS = 4
TOLERANCE_FP32 = 1e-5
TOLERANCE_BF16 = 2e-2
GRADIENT_TOLERANCE_FP32 = 1e-4
GRADIENT_TOLERANCE_BF16 = 5e-2
OFF_TOLERANCE = 1e-6
COVERAGE = (0.001, 0.995)
"""Bounds of the share of tokens that carry a label."""


def check_labels(rows: Sequence[TokenRow], eos_ids: frozenset[int], vocabulary: int) -> list[SelfCheck]:
    """Prove what the token rows alone can show.

    Raises:
        NothingSupervised: a row has no label.
        EosNotSupervised: a labelled answer does not end with an end-of-sequence token.
        SelfCheckFailed: the share of labels is out of bounds, or an id is outside the vocabulary.
    """
    for row in rows:
        if not row.num_supervised:
            raise NothingSupervised(f"row {row.row}: no token carries a label; expected at least one")
        if open_ended := [end for _, end in row.spans if row.ids[end - 1] not in eos_ids]:
            raise EosNotSupervised(
                f"row {row.row}: the answer that ends at token {open_ended[0]} does not end with an "
                f"end-of-sequence token (ids {sorted(eos_ids)}); the model would never learn to stop"
            )
    highest = max(max(row.ids) for row in rows)
    if highest >= vocabulary:
        raise SelfCheckFailed(
            f"ids_in_vocabulary: token id {highest} is outside the model's vocabulary of {vocabulary}; "
            "expected tokenizer and weights of the same base"
        )
    labelled, total = sum(row.num_supervised for row in rows), sum(len(row.ids) for row in rows)
    low, high = COVERAGE
    if not low <= labelled / total <= high:
        raise SelfCheckFailed(
            f"label_coverage: {labelled} of {total} tokens carry a label ({labelled / total:.2%}), expected "
            f"between {low:.1%} and {high:.1%}. Look at the masks with `tunewright data tokens`."
        )
    return [
        SelfCheck(name="supervised_rows", passed=True, detail=f"all {len(rows)} rows carry labels"),
        SelfCheck(name="eos_is_label", passed=True, detail=f"all answers end with one of {sorted(eos_ids)}"),
        SelfCheck(name="label_coverage", passed=True, detail=f"{labelled / total:.2%} of {total} tokens"),
    ]


def sample_rows(rows: Sequence[TokenRow]) -> list[TokenRow]:
    """Choose rows for the proofs: the shortest, the longest, and some between."""
    by_length = sorted(rows, key=lambda row: (len(row.ids), row.row))
    last = len(by_length) - 1
    picks = sorted({round(at * last / (SAMPLE_ROWS - 1)) for at in range(SAMPLE_ROWS)})
    chosen = [by_length[at] for at in picks]
    return chosen if len(chosen) > 1 else chosen * 2  # two documents at least, or packing proves nothing


def reference_loss(model: PreTrainedModel, rows: Sequence[TokenRow], device: torch.device) -> float:
    """Compute the mean loss the plain way: row by row, eager attention, the model's own head everywhere."""
    total = 0.0
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            for row in rows:
                ids = torch.tensor([row.ids], device=device)
                logits = model(input_ids=ids, use_cache=False).logits[0].float()
                at = torch.tensor([p for start, end in row.spans for p in range(max(start, 1), end)])
                total += cross_entropy(logits[at - 1], ids[0, at], reduction="sum").item()
    finally:
        model.set_attn_implementation(attention.NAME)
    return total / _num_labels(rows)


def packed_loss(
    model: PreTrainedModel, objective: Objective, rows: Sequence[TokenRow], device: torch.device
) -> float:
    """Compute the mean loss as the loop does: all rows in one packed sequence."""
    with torch.no_grad():
        batch = micro_batch(rows, device)
        return objective(model, batch).item() / len(batch.labels_S)


def check_packing(reference: float, packed: float, *, is_fp32: bool) -> SelfCheck:
    """Compare the two losses. Raises SelfCheckFailed."""
    tolerance = TOLERANCE_FP32 if is_fp32 else TOLERANCE_BF16
    detail = f"packed {packed:.6f} == unpacked {reference:.6f} (tolerance {tolerance:g})"
    if not abs(packed - reference) <= tolerance * max(1.0, abs(reference)):
        raise SelfCheckFailed(
            f"packed_equals_unpacked: packed loss {packed:.6f}, unpacked {reference:.6f}, expected a "
            f"difference within {tolerance:g}. This base's layers see across documents or compute their head "
            "differently; it cannot be trained packed. Choose another base."
        )
    return SelfCheck(name="packed_equals_unpacked", passed=True, detail=detail)


def check_accumulation(
    trainable: Trainable,
    objective: Objective,
    rows: Sequence[TokenRow],
    device: torch.device,
    *,
    is_fp32: bool,
) -> SelfCheck:
    """Prove that one big batch and a micro-batch a row give the same gradient. Raises SelfCheckFailed."""
    parameters = trainable.parameters
    together = _gradients(trainable.causal, objective, [list(rows)], device, parameters)
    apart = _gradients(trainable.causal, objective, [[row] for row in rows], device, parameters)
    norm = torch.stack([value.square().sum() for value in together.values()]).sum().sqrt().item()
    difference = torch.stack([(together[name] - apart[name]).square().sum() for name in together])
    relative = difference.sum().sqrt().item() / max(norm, 1e-12)
    tolerance = GRADIENT_TOLERANCE_FP32 if is_fp32 else GRADIENT_TOLERANCE_BF16
    if not (norm > 0 and relative <= tolerance):
        raise SelfCheckFailed(
            f"accumulated_equals_big_batch: gradient norm {norm:.6g}, relative difference {relative:.3g}, "
            f"expected a gradient above 0 and a difference within {tolerance:g}. "
            "Report this with the base's name."
        )
    return SelfCheck(
        name="accumulated_equals_big_batch",
        passed=True,
        detail=f"gradient norm {norm:.6g}, relative difference {relative:.2g} (tolerance {tolerance:g})",
    )


def check_adapter_off(base: float, off: float) -> SelfCheck:
    """Compare the base's loss with the loss of the model whose adapter is off. Raises SelfCheckFailed."""
    if not abs(off - base) <= OFF_TOLERANCE:
        raise SelfCheckFailed(
            f"adapter_off_equals_base: loss {off!r} with the adapter off, {base!r} before it was added; "
            f"expected a difference within {OFF_TOLERANCE:g}. The adapter changes the base's own weights; "
            "report this with the base's name."
        )
    return SelfCheck(name="adapter_off_equals_base", passed=True, detail=f"both {base:.6f}")


def _gradients(
    model: PreTrainedModel,
    objective: Objective,
    groups: Sequence[Sequence[TokenRow]],
    device: torch.device,
    parameters: Mapping[str, nn.Parameter],
) -> dict[str, Tensor]:
    """Accumulate over groups, normalised by the label count of all of them; leaves no gradient behind."""
    num_labels = _num_labels([row for group in groups for row in group])
    for group in groups:
        (objective(model, micro_batch(group, device)) / num_labels).backward()
    found = {name: value.grad.clone() for name, value in parameters.items() if value.grad is not None}
    for value in parameters.values():
        value.grad = None
    return found


def _num_labels(rows: Sequence[TokenRow]) -> int:
    return sum(end - max(start, 1) for row in rows for start, end in row.spans)
