"""Does a base's configuration describe its weights? Libraries fill what is missing with random numbers. Pure."""

import re
from collections.abc import Mapping, Sequence

from tunewright.values import Json

_EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in)\.weight$")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_VOCABULARY = ("vocab_size",)
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")


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
    depth = 1 + max((int(found[1]) for name in shapes if (found := _LAYER.search(name))), default=-1)
    wanted = [(_VOCABULARY, table[0]), (_HIDDEN, table[1])] + ([(_LAYERS, depth)] if depth else [])
    return next(filter(None, (_difference(text, names, stored) for names, stored in wanted)), None)


def _difference(config: Mapping[str, Json], names: Sequence[str], stored: int) -> str | None:
    name = next((name for name in names if name in config), None)
    if name is None:
        return f"has no {names[0]}, and the weights have {stored:,}"
    return None if config[name] == stored else f"says {name} {config[name]!r}, but the weights have {stored:,}"
