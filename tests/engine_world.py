"""A running engine with two adapters, and the same models in this process; shared by its contract tests."""

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save
from transformers import AutoModelForCausalLM, PreTrainedModel

from tunewright.backends.base_models import TINY
from tunewright.backends.engine.adapter_files import name_of_manifest
from tunewright.backends.engine.client import EngineClient
from tunewright.core.tokens import ChatTokenizer
from tunewright.values import Digest

QUESTIONS = (
    "hi",
    "What is your favourite movie, and who plays in it?",
    "please set the lamp in the kitchen to off",
    "Tell me about the last concert you went to. " * 6,
    "two tickets for the chess match on Friday at 7",
)
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def chat(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


@dataclass(frozen=True)
class Tuned:
    """An adapter with weights far from zero, and PEFT's own model of it."""

    digest: Digest
    files: Mapping[str, bytes]
    model: PeftModel


@dataclass(frozen=True)
class World:
    engine: EngineClient
    tokenizer: ChatTokenizer
    base: PreTrainedModel
    one: Tuned
    two: Tuned

    def model(self, name: str) -> torch.nn.Module:
        return {"base": self.base, self.one.digest: self.one.model, self.two.digest: self.two.model}[name]


def load_model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(TINY, local_files_only=True, dtype=torch.float32).eval()


def tuned(seed: int, **settings: object) -> Tuned:
    torch.manual_seed(seed)
    config = LoraConfig(target_modules=TARGETS, task_type="CAUSAL_LM", **settings)  # type: ignore[arg-type]
    model = get_peft_model(load_model(), config).eval()
    weights: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.08)
                weights[name.replace(".default", "")] = parameter.clone()
    files = {
        "adapter_config.json": json.dumps(model.peft_config["default"].to_dict(), default=sorted).encode(),
        "adapter_model.safetensors": save(weights),
    }
    return Tuned(name_of_manifest(files), files, model)


def expected_greedy(world: World, model: str, question: str, max_tokens: int) -> list[int]:
    ids = world.tokenizer.encode(chat(question), add_generation_prompt=True)
    made = world.model(model).generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids)),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return made[0, len(ids) :].tolist()


def ask(
    engine: EngineClient, method: str, path: str, body: bytes | None = None, token: str | None = None
) -> tuple[int, Message, bytes]:
    """Speak plain HTTP; return status, headers and the whole body."""
    connection = http.client.HTTPConnection(engine.url.removeprefix("http://"), timeout=60)
    try:
        headers = {"Authorization": f"Bearer {engine.token if token is None else token}"}
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def post(engine: EngineClient, path: str, **body: object):
    status, _, data = ask(engine, "POST", path, json.dumps(body).encode())
    return status, json.loads(data)


def stream(engine: EngineClient, **body: object) -> list[object]:
    status, headers, data = ask(
        engine, "POST", "/v1/chat/completions", json.dumps(body | {"stream": True}).encode()
    )
    assert status == 200
    assert headers["Content-Type"] == "text/event-stream"
    events = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def wait_until_running(engine: EngineClient, number: int = 1) -> None:
    """Until so many answers are in the making, those in the queue included."""
    while True:
        health = json.loads(ask(engine, "GET", "/health")[2])
        if health["running"] and health["running"] + health["waiting"] >= number:
            return
        time.sleep(0.01)
