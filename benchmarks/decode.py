"""Decoding speed: the built-in engine beside `generate` of transformers, in one run on the same base.

    python benchmarks/decode.py [--base FOLDER] [--rank 16] [--threads 1]

Counts new tokens a second of CPU time, prompts of 48 tokens and answers of 64, greedy, without an end token.
Arms take turns, so that a busy machine slows all of them alike; printed are the median and its ratio to
`generate`, and what eight resident adapters cost: one of them for a whole batch, and all mixed in one batch.
Exit code 1 when a target is missed.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportCallIssue=false
# torch and transformers are typed in part only.

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tunewright.backends.base_models import TINY
from tunewright.backends.engine.answer import Row, Sampling
from tunewright.backends.engine.backbone import Backbone, GenericBackbone
from tunewright.backends.engine.backbone_llama import backbone_of
from tunewright.backends.engine.decoder import BatchDecoder
from tunewright.backends.engine.lora import Adapter, site_update
from tunewright.values import Digest

PROMPT_TOKENS = 48
NEW_TOKENS = 64
BATCHES = (1, 8, 32)
NUM_ADAPTERS = 8
PEER, BASE, ONE, MIXED = "generate", "engine, base", "eight held, one used", "engine, eight mixed"
MIN_SPEEDUP = 1.1
MAX_LOSS = {ONE: 0.10, MIXED: 0.35}
"""Of the base's rate, in a batch of at least eight."""


def load(base: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.float32).eval()


def prompts(num_rows: int, vocabulary: int) -> torch.Tensor:
    return torch.randint(6, vocabulary, (num_rows, PROMPT_TOKENS))


def random_adapter(backbone: Backbone, seed: int, rank: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    updates = {}
    for name, site in backbone.sites.items():
        pairs = {
            part.module: (
                torch.randn(rank, site.num_inputs, generator=generator) * 0.01,
                torch.randn(part.stop - part.start, rank, generator=generator) * 0.01,
            )
            for part in site.parts
        }
        if update := site_update(site, pairs, torch.float32):
            updates[name] = update
    return Adapter(Digest(f"{seed:064d}"), updates, 0)


def generate(model: PreTrainedModel, tokens: torch.Tensor) -> None:
    model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=0,
    )


def decode(decoder: BatchDecoder, tokens: torch.Tensor, adapters: list[Adapter | None]) -> None:
    """Answer all prompts; the decoder lives on, as it does in the engine, with the memory it has taken."""
    decoder.step(
        [
            Row(tuple(prompt), NEW_TOKENS, Sampling(), adapters[index % len(adapters)])
            for index, prompt in enumerate(tokens.tolist())
        ]
    )
    for _ in range(NEW_TOKENS - 1):
        decoder.step(())
    for index in reversed(range(len(tokens))):
        decoder.leave(index)


def measure(arms: dict[str, Callable[[torch.Tensor], None]], num_rows: int, vocabulary: int, repeats: int):
    """New tokens a CPU second of each arm: median over turns, after one turn that does not count."""
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(repeats + 1):
        for name, arm in arms.items():
            tokens = prompts(num_rows, vocabulary)
            started_s = time.process_time()
            arm(tokens)
            if turn:
                rates[name].append(num_rows * NEW_TOKENS / (time.process_time() - started_s))
    return {name: statistics.median(values) for name, values in rates.items()}


def judge(rates: dict[str, float], num_rows: int) -> list[bool]:
    """Say whether the targets are kept at this batch size; adapters are judged from a batch of eight on."""
    speedup = rates[BASE] / rates[PEER]
    verdicts = [speedup >= MIN_SPEEDUP]
    words = [f"{speedup:.2f}x generate (target {MIN_SPEEDUP}x)"]
    for arm, most in MAX_LOSS.items() if num_rows >= NUM_ADAPTERS else ():
        loss = 1 - rates[arm] / rates[BASE]
        verdicts.append(loss <= most)
        words.append(f"{arm}: {loss:.0%} loss (at most {most:.0%})")
    print(f"       {'; '.join(words)}: {'met' if all(verdicts) else 'MISSED'}")
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=TINY)
    parser.add_argument("--rank", type=int, default=16, help="of the adapters")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    peer, ours, general = (
        load(options.base),
        backbone_of(load(options.base)),
        GenericBackbone(load(options.base)),
    )
    adapters: list[Adapter | None] = [
        random_adapter(ours, seed, options.rank) for seed in range(NUM_ADAPTERS)
    ]
    turns = itertools.cycle(adapters)
    engine, plain = (BatchDecoder(one, cache_bytes=2**30) for one in (ours, general))
    arms: dict[str, Callable[[torch.Tensor], None]] = {
        PEER: lambda tokens: generate(peer, tokens),
        BASE: lambda tokens: decode(engine, tokens, [None]),
        ONE: lambda tokens: decode(engine, tokens, [next(turns)]),
        MIXED: lambda tokens: decode(engine, tokens, adapters),
        "engine, general way": lambda tokens: decode(plain, tokens, [None]),
    }
    print(f"new tokens a CPU second, {options.threads} threads, rank {options.rank}, base {options.base}")
    print("batch  " + "  ".join(f"{name:>22}" for name in arms))
    verdicts: list[bool] = []
    with torch.inference_mode():
        for num_rows in BATCHES:
            rates = measure(arms, num_rows, int(peer.config.vocab_size), options.repeats)
            cells = [f"{rate:>13.0f} ({rate / rates[PEER]:.2f}x)" for rate in rates.values()]
            print(f"{num_rows:>5}  " + "  ".join(f"{cell:>22}" for cell in cells), flush=True)
            verdicts += judge(rates, num_rows)
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
