"""Pre-train the shipped tiny base: `python -m tunewright.demo.pretrain --data DIR`.

DIR holds `self-dialogue/dialogues.jsonl.gz` (one JSON object a line: topic, turns), derived from the public
Self-dialogue Corpus. The corpus is mixed with generated JSON chatter (`chatter.py`); nothing else is read.
Runs outside the product's own training loop on purpose: it makes the base that loop adapts.

Shapes: B sequences, T tokens.
"""

# torch, tokenizers and transformers come without complete types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportArgumentType=false, reportReturnType=false

import argparse
import gzip
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tunewright.demo.chatter import Messages, chatter

SEED = 20261120
VOCABULARY = 4096
CONTEXT_TOKENS = 512
BATCH_SEQUENCES = 8
LEARNING_RATE = 2e-3
WARMUP_STEPS = 100
CHATTER_SHARE = 0.4
"""Share of dialogues (by tokens, approximately) that are generated JSON chatter."""

SPECIAL = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def read_dialogues(data: Path) -> list[Messages]:
    """Read the corpus as chats of alternating turns; some name the topic as system text."""
    rng = random.Random(SEED)
    dialogues: list[Messages] = []
    with gzip.open(data / "self-dialogue" / "dialogues.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            messages = [
                {"role": "user" if turn % 2 == 0 else "assistant", "content": text.strip()}
                for turn, text in enumerate(row["turns"])
            ]
            if rng.random() < 0.2:
                messages.insert(0, {"role": "system", "content": f"Talk about {row['topic']}."})
            dialogues.append(messages)
    rng.shuffle(dialogues)
    return dialogues


def train_tokenizer(dialogues: list[Messages]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with single digits on the corpus and a tenth as much chatter."""
    generator = chatter(SEED + 1)
    sample = dialogues + [next(generator) for _ in range(len(dialogues) // 3)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((m["content"] for messages in sample for m in messages), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        extra_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT_TOKENS,
    )


def mixed_stream(dialogues: list[Messages], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[int]]:
    """Yield token ids of dialogues and chatter in turn, so that chatter makes up its share of the tokens."""
    generator, rng = chatter(SEED + 2), random.Random(SEED + 3)
    num_chatter = num_all = 0
    while True:
        for dialogue in dialogues:
            while num_chatter < CHATTER_SHARE * num_all:
                ids = tokenizer.apply_chat_template(next(generator), return_dict=False)
                num_chatter, num_all = num_chatter + len(ids), num_all + len(ids)
                yield ids
            ids = tokenizer.apply_chat_template(dialogue, return_dict=False)
            num_all += len(ids)
            yield ids
        rng.shuffle(dialogues)


def batches(stream: Iterator[list[int]], num_steps: int) -> Iterator[torch.Tensor]:
    """Cut the stream into batches (B, T)."""
    want, buffer = BATCH_SEQUENCES * CONTEXT_TOKENS, []
    for _ in range(num_steps):
        while len(buffer) < want:
            buffer += next(stream)
        yield torch.from_numpy(np.asarray(buffer[:want], dtype=np.int64)).view(
            BATCH_SEQUENCES, CONTEXT_TOKENS
        )
        buffer = buffer[want:]


def learning_rate(step: int, num_steps: int) -> float:
    """Warm up linearly, then decay by a cosine to a twentieth."""
    if step < WARMUP_STEPS:
        return LEARNING_RATE * (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, num_steps - WARMUP_STEPS)
    return LEARNING_RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build the 5.8 M parameter Llama with seeded random weights."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def main() -> None:
    """Train, print a line every 20 steps, and write the base with its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with self-dialogue/dialogues.jsonl.gz"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "base")
    parser.add_argument("--tokens", type=int, default=8_000_000, help="tokens to train on")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    dialogues = read_dialogues(options.data)
    tokenizer = train_tokenizer(dialogues)
    model = build_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    num_steps = options.tokens // (BATCH_SEQUENCES * CONTEXT_TOKENS)
    started, losses = time.monotonic(), []
    for step, tokens_BT in enumerate(batches(mixed_stream(dialogues, tokenizer), num_steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, num_steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=tokens_BT, labels=tokens_BT).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 20 == 0 or step == num_steps - 1:
            rate = (step + 1) * BATCH_SEQUENCES * CONTEXT_TOKENS / (time.monotonic() - started)
            print(f"step {step}/{num_steps} loss {np.mean(losses[-20:]):.4f} {rate:.0f} tokens/s", flush=True)
        if step % 400 == 399:
            save(model, tokenizer, options.out, card(options, step + 1, losses, started))
    save(model, tokenizer, options.out, card(options, num_steps, losses, started))


def card(
    options: argparse.Namespace, num_steps: int, losses: list[float], started: float
) -> dict[str, object]:
    """Describe what the base was made from."""
    corpus = options.data / "self-dialogue" / "dialogues.jsonl.gz"
    return {
        "data": "Self-dialogue Corpus (BSD-3, jfainberg/self_dialogue_corpus) and generated JSON chatter",
        "corpus_sha256": hashlib.sha256(corpus.read_bytes()).hexdigest(),
        "chatter_share": CHATTER_SHARE,
        "seed": SEED,
        "threads": options.threads,
        "tokens_seen": num_steps * BATCH_SEQUENCES * CONTEXT_TOKENS,
        "steps": num_steps,
        "sequence_tokens": CONTEXT_TOKENS,
        "final_loss": round(float(np.mean(losses[-50:])), 4),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "licence": "Apache-2.0",
    }


def save(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, facts: dict[str, object]
) -> None:
    """Write weights in bf16, tokenizer, and the card with the hash of each file."""
    out.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.to(torch.bfloat16).save_pretrained(out, safe_serialization=True)
    model.to(torch.float32).load_state_dict(state)
    tokenizer.save_pretrained(out)
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.iterdir())
        if path.suffix in {".json", ".safetensors", ".jinja"} and path.name != "card.json"
    }
    (out / "card.json").write_text(json.dumps({**facts, "sha256": hashes}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
