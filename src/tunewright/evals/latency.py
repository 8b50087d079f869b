"""How much slower is the candidate than the base? Both are asked in turn, row by row; the answer is a ratio.

Depends on the machine, so it is a fact beside the verdict and part of no digest.
"""

import math
from collections.abc import Sequence

import numpy as np

from tunewright.core.stats_distributions import t_quantile
from tunewright.evals.items import Chat
from tunewright.ports import Engine, GenerateRequest
from tunewright.values import Json

PROBE_ROWS = 8
PROBE_TOKENS = 12

Served = tuple[Engine, str]
"""An engine and the model it is asked for."""


def latency_facts(candidate: Served, base: Served, chats: Sequence[Chat]) -> dict[str, Json]:
    """Measure seconds a token of both arms, one request at a time, alternating who goes first.

    Args:
        candidate: the tuned arm.
        base: the arm it is compared with.
        chats: prompts; the first few are used. One more is asked first to warm both up.

    Returns:
        ratio candidate / base (geometric mean), its 95 % interval `low` and `high` where there are enough
        rows, `rows`, and the median seconds a token of both; empty without prompts.
    """
    probes = chats[:PROBE_ROWS]
    if not probes:
        return {}
    for served in (candidate, base):
        _seconds_a_token(served, probes[0])
    pairs: list[tuple[float, float]] = []
    for index, chat in enumerate(probes):
        pairs.append(_in_turn(candidate, base, chat, candidate_first=index % 2 == 0))
    logs = np.log(np.array(pairs)[:, 0] / np.array(pairs)[:, 1])
    facts: dict[str, Json] = {
        "ratio": math.exp(float(logs.mean())),
        "rows": len(pairs),
        "candidate_s_per_token": float(np.median([pair[0] for pair in pairs])),
        "base_s_per_token": float(np.median([pair[1] for pair in pairs])),
    }
    if len(pairs) > 2:
        half = t_quantile(0.975, len(pairs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(pairs))
        facts["low"], facts["high"] = (
            math.exp(float(logs.mean()) - half),
            math.exp(float(logs.mean()) + half),
        )
    return facts


def _in_turn(candidate: Served, base: Served, chat: Chat, *, candidate_first: bool) -> tuple[float, float]:
    if candidate_first:
        first = _seconds_a_token(candidate, chat)
        return first, _seconds_a_token(base, chat)
    second = _seconds_a_token(base, chat)
    return _seconds_a_token(candidate, chat), second


def _seconds_a_token(served: Served, chat: Chat) -> float:
    engine, model = served
    request = GenerateRequest(messages=chat, model=model, max_tokens=PROBE_TOKENS)
    generation = engine.generate([request])[0]
    return max(generation.latency_s, 1e-9) / max(generation.num_tokens, 1)
