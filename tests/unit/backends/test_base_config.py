"""A configuration that does not describe its weights is found; unusual but sound ones are left alone."""

import pytest

from tunewright.backends.base_config import config_problem
from tunewright.values import Json

SHAPES = {
    "model.embed_tokens.weight": [100, 8],
    "model.layers.0.mlp.up_proj.weight": [16, 8],
    "model.layers.1.mlp.up_proj.weight": [16, 8],
}
SOUND: dict[str, Json] = {"model_type": "llama", "vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 16}, "says hidden_size 16, but the weights have 8"),
        ({"vocab_size": 101}, "says vocab_size 101, but the weights have 100"),
        ({"num_hidden_layers": 3}, "says num_hidden_layers 3, but the weights have 2"),
        ({"model_type": 7}, "names no `model_type`"),
    ],
)
def test_a_difference_is_named(change: dict[str, Json], words: str):
    assert config_problem({**SOUND, **change}, SHAPES) == words


def test_a_width_that_is_not_written_is_not_left_to_a_default():
    config = {key: value for key, value in SOUND.items() if key != "hidden_size"}
    assert config_problem(config, SHAPES) == "has no hidden_size, and the weights have 8"


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (SOUND, SHAPES),
        (SOUND, {"w": [1]}),
        ({**SOUND, "num_hidden_layers": 1}, SHAPES),  # a layer for training only, as multi-token bases have
        (
            {"model_type": "gpt2", "vocab_size": 9, "n_embd": 4, "n_layer": 1},
            {"wte.weight": [9, 4], "h.0.ln": [4]},
        ),
        ({**SOUND, "hidden_size": 32, "word_embed_proj_dim": 8}, SHAPES),
        ({"model_type": "two_towers", "text_config": {"vocab_size": 100, "hidden_size": 8}}, SHAPES),
    ],
)
def test_a_sound_configuration_passes(config: dict[str, Json], shapes: dict[str, list[int]]):
    assert config_problem(config, shapes) is None
