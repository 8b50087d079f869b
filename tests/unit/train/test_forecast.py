"""The forecast: parameter counts are exact, the rest moves the right way."""

import json
from pathlib import Path

import pytest

import tunewright.demo
from tunewright.recipe import LoraSettings, TrainSection
from tunewright.train.forecast import forecast, shape_of

CONFIG = json.loads((Path(tunewright.demo.__file__).parent / "base" / "config.json").read_text("utf-8"))
LENGTHS = [60] * 100


def test_parameters_of_the_tiny_base_are_counted_exactly():
    shape = shape_of(CONFIG)
    assert shape.parameters == 5_868_800
    assert shape.lora_parameters(8) == 236_544


def test_steps_and_tokens_follow_epochs_batches_and_limits():
    whole = forecast(CONFIG, TrainSection(epochs=2, batch_rows=16), LENGTHS)
    assert (whole.num_steps, whole.num_tokens) == (13, 12_000)
    cut = forecast(CONFIG, TrainSection(epochs=2, batch_rows=16, max_steps=3), LENGTHS)
    assert (cut.num_steps, cut.num_tokens) == (3, 2_880)


def test_full_fine_tuning_costs_more_time_and_memory_than_lora():
    lora, full = (forecast(CONFIG, TrainSection(method=method), LENGTHS) for method in ("lora", "full"))
    assert full.flops > lora.flops
    assert full.optimizer_bytes > 5 * lora.optimizer_bytes
    assert full.trained_parameters == full.parameters


def test_more_rank_longer_micro_batches_and_fewer_threads_cost_more():
    usual = forecast(CONFIG, TrainSection(), LENGTHS)
    ranked = forecast(CONFIG, TrainSection(lora=LoraSettings(rank=64)), LENGTHS)
    assert ranked.memory_bytes > usual.memory_bytes
    small = forecast(CONFIG, TrainSection(micro_tokens=64), LENGTHS)
    assert small.activation_bytes < usual.activation_bytes
    assert forecast(CONFIG, TrainSection(), LENGTHS, threads=2).wall_s < usual.wall_s


def test_an_eight_billion_model_needs_what_such_models_need():
    llama_8b = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    expected = forecast(llama_8b, TrainSection(precision="bf16"), LENGTHS)
    assert expected.parameters == pytest.approx(8.03e9, rel=0.01)
    assert expected.weights_bytes == pytest.approx(16e9, rel=0.02)
