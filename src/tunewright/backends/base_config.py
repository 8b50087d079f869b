"""Does a base's configuration describe its weights? Pure.

The library that loads it fills whatever weights are missing with random numbers and goes on.
"""

import re
from collections.abc import Mapping, Sequence

from tunewright.values import Json

_EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in)\.weight$")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_PROJECTED = ("word_embed_proj_dim", "embedding_size")
"""Present where embeddings are narrower than the layers."""
_VOCABULARY = ("vocab_size",)
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
"""Weights may hold more layers than are configured: some bases ship extra ones for training only."""


def config_problem(config: Mapping[str, Json], shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Compare what config.json says of width, vocabulary and depth with the tensors.

    Args:
        config: config.json.
        shapes: name -> shape of every stored tensor.

    Returns:
        What is wrong, in words that follow the file's name; None where all fits or the tensors have
        names we do not know.
    """
    if not isinstance(config.get("model_type"), str):
        return "names no `model_type`"
    inner = config.get("text_config")
    text = {**config, **inner} if isinstance(inner, dict) else config
    table = next((shape for name, shape in shapes.items() if _EMBEDDINGS.search(name)), None)
    if table is None or len(table) != 2:
        return None
    depth = (
        0
        if inner
        else 1 + max((int(found[1]) for name in shapes if (found := _LAYER.search(name))), default=-1)
    )
    width = next((text[name] for name in _PROJECTED if name in text), table[1])
    if width != table[1]:
        return f"says the embeddings are {width!r} wide, but the weights have {table[1]:,}"
    wanted = [(_VOCABULARY, table[0]), (_LAYERS, depth)]
    wanted += [] if any(name in text for name in _PROJECTED) else [(_HIDDEN, table[1])]
    return next(filter(None, (_difference(text, names, stored) for names, stored in wanted if stored)), None)


def _difference(config: Mapping[str, Json], names: Sequence[str], stored: int) -> str | None:
    name = next((name for name in names if name in config), None)
    if name is None:
        return f"has no {names[0]}, and the weights have {stored:,}"
    value = config[name]
    fits = value == stored or (names is _LAYERS and isinstance(value, int) and value < stored)
    return None if fits else f"says {name} {value!r}, but the weights have {stored:,}"
