"""The trainer's own log-probabilities of a few trained rows, kept with the candidate.

The gate asks the engine for the same numbers: what was trained is what is served.

Shapes: T tokens of a row, H hidden size.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from tunewright.core.tokens import TokenRow
from tunewright.train.packed import micro_batch
from tunewright.values import canonical_json

PARITY_FILE = "parity.json"
NUM_ROWS = 64
DECIMALS = 6


def parity_reference(model: PreTrainedModel, rows: Sequence[TokenRow], device: torch.device) -> bytes:
    """Write {"rows": [{row, ids, logprobs}]} for up to 64 rows, chosen by the hash of their id.

    Args:
        model: with the candidate's weights in place, and without dropout.
        rows: trained rows.
        device: where the model is.
    """
    chosen = sorted(rows, key=lambda row: hashlib.sha256(row.row.encode()).hexdigest())[:NUM_ROWS]
    return canonical_json(
        {
            "rows": [
                {"row": row.row, "ids": list(row.ids), "logprobs": _logprobs(model, row, device)}
                for row in chosen
            ]
        }
    )


def _logprobs(model: PreTrainedModel, row: TokenRow, device: torch.device) -> list[float]:
    """Natural-log probability of each token given those before it; the first is 0.0."""
    batch = micro_batch([TokenRow(row.row, row.ids, ((1, len(row.ids)),))], device)
    with torch.no_grad():
        hidden_1TH = model.get_decoder()(
            input_ids=batch.tokens_1T,
            position_ids=batch.positions_1T,
            use_cache=False,
            document_lengths=batch.document_lengths,
        ).last_hidden_state
        head = cast("nn.Linear", model.get_output_embeddings())
        logprobs_TV = torch.log_softmax(head(hidden_1TH[0]).float(), dim=-1)
        found_T = logprobs_TV.gather(1, batch.labels_S[:, None])[:, 0]
    return [0.0, *(round(value, DECIMALS) for value in found_T.tolist())]
