"""The running batch on small random models of several architectures, against their own plain forward pass."""

import random

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tunewright.backends.engine.answer import Row, Sampling
from tunewright.backends.engine.backbone import GenericBackbone, context_tokens, own_logits, prove
from tunewright.backends.engine.backbone_llama import LlamaBackbone, backbone_of
from tunewright.backends.engine.decoder import BatchDecoder
from tunewright.backends.engine.lora import Adapter, site_update
from tunewright.errors import BaseIncomplete
from tunewright.values import Digest

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 200,
    "initializer_range": 0.3,
}

MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama with scaled positions": lambda: LlamaForCausalLM(
        LlamaConfig(
            **SIZES,
            attention_bias=True,
            rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
        )
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=64)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES)),
}


def make(name: str) -> PreTrainedModel:
    torch.manual_seed(3)
    model = MODELS[name]().eval()
    with torch.no_grad():  # biases are initialised to zero, which would hide that they are forgotten
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_()
    return model


def plain_greedy(model: PreTrainedModel, prompt: tuple[int, ...], count: int) -> list[int]:
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(own_logits(model, ids)[-1].argmax()))
    return ids[len(prompt) :]


def a_row(length: int, seed: int, adapter: Adapter | None = None) -> Row:
    rng = random.Random(seed)
    return Row(tuple(rng.randrange(61) for _ in range(length)), 60, Sampling(), adapter)


def decoder_of(model: PreTrainedModel) -> BatchDecoder:
    return BatchDecoder(backbone_of(model), cache_bytes=2**24)


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_served_equals_its_own_forward(name: str):
    model = make(name)
    rows = [a_row(length, length) for length in (5, 1, 17)]
    expected = [plain_greedy(model, row.prompt, 9) for row in rows]
    decoder = decoder_of(model)
    steps = [decoder.step(rows), *(decoder.step(()) for _ in range(8))]
    found = [[step[index].token for step in steps] for index in range(3)]
    assert found == expected


@pytest.mark.parametrize("name", MODELS)
def test_the_proof_passes_and_fails_when_the_arithmetic_differs(name: str):
    with torch.inference_mode():
        model, probe = make(name), list(range(12))
        expected_NV = own_logits(model, probe)
        backbone = backbone_of(model)
        prove(backbone, probe, expected_NV)
        with pytest.raises(BaseIncomplete, match="differ from the model's own"):
            prove(backbone, probe, expected_NV + torch.randn(expected_NV.shape))


def test_the_common_architecture_takes_the_short_way_and_others_the_general_one():
    assert isinstance(backbone_of(make("llama")), LlamaBackbone)
    assert isinstance(backbone_of(make("qwen3")), GenericBackbone)


def test_an_architecture_with_attention_of_another_kind_is_refused_and_not_served_wrongly():
    torch.manual_seed(3)
    model = Gemma2ForCausalLM(Gemma2Config(**SIZES)).eval()
    with torch.inference_mode():
        expected_NV = own_logits(model, range(12))
        with pytest.raises(BaseIncomplete, match="softcap"):
            prove(backbone_of(model), range(12), expected_NV)


def test_a_sliding_window_bounds_the_context():
    assert context_tokens(make("mistral")) == 64
    assert context_tokens(make("qwen2")) == 200


def adapter_for(model_name: str, seed: int, rank: int = 3) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    updates = {}
    for name, site in backbone_of(make(model_name)).sites.items():
        pairs = {
            part.module: (
                torch.randn(rank, site.num_inputs, generator=generator) * 0.2,
                torch.randn(part.stop - part.start, rank, generator=generator) * 0.2,
            )
            for part in site.parts
        }
        update = site_update(site, pairs, torch.float32)
        assert update is not None
        updates[name] = update
    return Adapter(Digest(f"{seed:064d}"), updates, 0)


def alone(name: str, row: Row, count: int) -> list[int]:
    decoder = decoder_of(make(name))
    return [decoder.step([row])[0].token, *(decoder.step(())[0].token for _ in range(count - 1))]


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_rows_that_come_and_go_with_mixed_adapters_equal_rows_served_alone(name: str):
    rng = random.Random(0)
    adapters = [None, adapter_for(name, 1), adapter_for(name, 2), adapter_for(name, 3)]
    rows = [a_row(rng.randint(1, 20), seed, rng.choice(adapters)) for seed in range(14)]
    wanted = [rng.randint(1, 12) for _ in rows]
    decoder = decoder_of(make(name))
    running: list[int] = []
    waiting = list(range(len(rows)))
    found: list[list[int]] = [[] for _ in rows]
    while waiting or running:
        coming = [waiting.pop(0) for _ in range(min(len(waiting), rng.randint(0, 3)))]
        if not coming and not running:
            continue
        running.extend(coming)
        for index, drawn in zip(running, decoder.step([rows[index] for index in coming]), strict=True):
            found[index].append(drawn.token)
        for place in range(len(running) - 1, -1, -1):
            if len(found[running[place]]) >= wanted[running[place]]:
                decoder.leave(place)
                running[place] = running[-1]
                running.pop()
    assert found == [alone(name, row, count) for row, count in zip(rows, wanted, strict=True)]
    assert len({tuple(alone(name, a_row(4, 1, adapter), 10)) for adapter in adapters}) == 4


def test_scores_of_texts_in_one_go_equal_each_alone_and_disturb_no_row():
    decoder = decoder_of(make("llama"))
    row = a_row(6, 1)
    drawn = [decoder.step([row])[0].token]
    texts = [a_row(length, length).prompt for length in (1, 9, 30)]
    together = decoder.score(texts, None)
    drawn += [decoder.step(())[0].token for _ in range(5)]
    assert drawn == alone("llama", row, 6)
    model = make("llama")
    for text, found in zip(texts, together, strict=True):
        with torch.inference_mode():
            logprobs = own_logits(model, text).log_softmax(-1)
        expected = [0.0, *(float(logprobs[place, token]) for place, token in enumerate(text[1:]))]
        assert found == pytest.approx(expected, abs=1e-4)


def test_room_is_counted_at_full_length_and_one_row_is_always_let_in():
    backbone = backbone_of(make("llama"))
    decoder = BatchDecoder(backbone, cache_bytes=backbone.shape.token_bytes * 200)
    assert decoder.has_room([a_row(10, 1)] * 2)
    assert not decoder.has_room([a_row(10, 1)] * 3)
    assert decoder.has_room([a_row(190, 1)])
