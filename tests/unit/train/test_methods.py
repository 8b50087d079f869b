"""LoRA and full fine-tuning: what is trained, and candidates whose bytes repeat."""

import json

import pytest
import torch
from safetensors.torch import load
from tests.train_world import save_llama

from tunewright.errors import BaseIncomplete, RecipeError
from tunewright.recipe import LoraSettings, TrainSection
from tunewright.train.methods import candidate_files, load_base, make_trainable, public_name

CPU = torch.device("cpu")
LORA = TrainSection(lora=LoraSettings(rank=4))


def lora_on(folder, settings=LORA, seed=0):
    model = load_base(folder, settings, CPU)
    torch.manual_seed(seed)
    return make_trainable(model, settings)


def test_lora_sits_on_every_linear_layer_below_the_head_and_nothing_else_is_trained(tmp_path):
    trainable = lora_on(save_llama(tmp_path))
    assert len(trainable.parameters) == 2 * 7 * 2
    assert all("lora_" in name and "lm_head" not in name for name in trainable.parameters)
    grads = {name for name, value in trainable.causal.named_parameters() if value.requires_grad}
    assert len(grads) == len(trainable.parameters)


def test_same_seed_makes_the_same_adapter_and_another_seed_another(tmp_path):
    folder = save_llama(tmp_path)
    assert lora_on(folder).digest() == lora_on(folder).digest() != lora_on(folder, seed=1).digest()


def test_targets_limit_the_layers_and_unknown_ones_are_named(tmp_path):
    folder = save_llama(tmp_path)
    chosen = lora_on(folder, TrainSection(lora=LoraSettings(targets=("q_proj", "v_proj"))))
    assert len(chosen.parameters) == 2 * 2 * 2
    for wrong in ("q_porj", "lm_head"):
        with pytest.raises(RecipeError, match=f"{wrong}.*down_proj"):
            lora_on(folder, TrainSection(lora=LoraSettings(targets=(wrong,))))


def test_adapter_files_are_peft_format_repeatable_and_hold_no_path(tmp_path):
    folder = save_llama(tmp_path / "secret-place")
    files = [candidate_files(t, t.weights(), str(folder), folder) for t in (lora_on(folder), lora_on(folder))]
    assert files[0] == files[1]
    assert set(files[0]) == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads(files[0]["adapter_config.json"])
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 32.0, "LORA")
    assert config["base_model_name_or_path"] == "secret-place"
    assert str(tmp_path).encode() not in b"".join(files[0].values())


@pytest.mark.filterwarnings("ignore:The PEFT config:UserWarning")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapter_files_load_into_peft_and_give_the_same_outputs(tmp_path):
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    folder = save_llama(tmp_path)
    trainable = lora_on(folder)
    with torch.no_grad():
        for value in trainable.parameters.values():
            value.add_(0.1)
    files = candidate_files(trainable, trainable.weights(), "small", folder)
    config = LoraConfig(**json.loads(files["adapter_config.json"]))
    other = get_peft_model(load_base(folder, LORA, CPU), config)
    result = set_peft_model_state_dict(other, load(files["adapter_model.safetensors"]))
    assert not result.unexpected_keys
    ids = torch.tensor([[1, 7, 9, 30]])
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(ids).logits, trainable.causal.eval()(ids).logits)


def test_full_fine_tuning_trains_everything_once_and_saves_a_base_folder(tmp_path):
    from transformers import AutoModelForCausalLM

    folder = save_llama(tmp_path / "base")
    settings = TrainSection(method="full")
    trainable = make_trainable(load_base(folder, settings, CPU), settings)
    with torch.no_grad():
        trainable.parameters["model.norm.weight"].mul_(2.0)
    files = candidate_files(trainable, trainable.weights(), "small", folder)
    assert "lm_head.weight" not in load(files["model.safetensors"])
    (tmp_path / "served").mkdir()
    for name, data in files.items():
        (tmp_path / "served" / name).write_bytes(data)
    served = AutoModelForCausalLM.from_pretrained(tmp_path / "served")
    ids = torch.tensor([[1, 7, 9, 30]])
    with torch.no_grad():
        torch.testing.assert_close(served(ids).logits, trainable.causal(ids).logits)


def test_adapter_off_is_the_base(tmp_path):
    folder = save_llama(tmp_path)
    ids = torch.tensor([[1, 7, 9, 30]])
    with torch.no_grad():
        expected = load_base(folder, LORA, CPU)(ids).logits
        trainable = lora_on(folder)
        for value in trainable.parameters.values():
            value.add_(0.1)
        assert not torch.allclose(trainable.causal(ids).logits, expected)
        with trainable.adapter_off():
            assert torch.equal(trainable.causal(ids).logits, expected)


def test_weights_come_back_as_they_were(tmp_path):
    trainable = lora_on(save_llama(tmp_path))
    before, kept = trainable.digest(), trainable.weights()
    with torch.no_grad():
        for value in trainable.parameters.values():
            value.add_(1.0)
    assert trainable.digest() != before
    trainable.load(kept)
    assert trainable.digest() == before


def test_a_folder_that_is_no_model_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no_such_architecture"}')
    with pytest.raises(BaseIncomplete, match="no_such_architecture"):
        load_base(tmp_path, LORA, CPU)


def test_names_of_bases_lose_their_folders():
    assert public_name("tiny") == "tiny"
    assert public_name("org/model@abc") == "org/model@abc"
    assert public_name("/home/me/models/mine") == "mine"
    assert public_name("./mine") == "mine"
