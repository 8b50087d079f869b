"""A training world in miniature: a random two-layer Llama, token rows, and rows of a dataset version."""

import random
from collections.abc import Sequence
from pathlib import Path

from tests.fakes import START

from tunewright.core.rows import encode_examples
from tunewright.core.tokens import TokenRow, dump_token_rows
from tunewright.ports import Blobs
from tunewright.recipe import TrainSection
from tunewright.records import BaseModelRef, DatasetVersion, Example, Message, Source, SplitInfo
from tunewright.train.job import TrainJob
from tunewright.values import Ref, digest_bytes, digest_json, merkle_root

EOS = 2
VOCABULARY = 61
NOTHING = digest_bytes(b"")


def small_llama(*, layers: int = 2, tie: bool = True):
    """A random Llama of a few thousand parameters, fp32, grouped keys."""
    import torch  # here, since most users of this module need rows only
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tie,
        eos_token_id=EOS,
        bos_token_id=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def save_llama(folder: Path, *, tie: bool = True) -> Path:
    """Write a small Llama as a base folder (without tokenizer)."""
    small_llama(tie=tie).save_pretrained(folder)
    return folder


def token_rows(num_rows: int, seed: int = 0) -> list[TokenRow]:
    """Rows with a pattern that can be learnt: the answer counts on from the prompt's last token."""
    rng = random.Random(seed)
    rows: list[TokenRow] = []
    for number in range(num_rows):
        start, length = rng.randrange(5, 40), rng.randrange(3, 9)
        prompt = [1, *(rng.randrange(5, 60) for _ in range(rng.randrange(2, 8))), start]
        answer = [*range(start + 1, start + length), EOS]
        rows.append(
            TokenRow(f"{seed}-{number:03d}", (*prompt, *answer), ((len(prompt), len(prompt) + len(answer)),))
        )
    return rows


def a_job(
    settings: TrainSection, base_folder: Path, train: Sequence[TokenRow], validation: Sequence[TokenRow]
) -> TrainJob:
    """A job on these rows."""
    return TrainJob(
        fingerprint=NOTHING,
        base=BaseModelRef(name="small", digest=NOTHING, tokenizer_digest=NOTHING),
        base_folder=str(base_folder),
        settings=settings,
        tokens={
            "train": digest_bytes(dump_token_rows(train)),
            "validation": digest_bytes(dump_token_rows(validation)),
        },
        eos_ids=(EOS,),
    )


def examples(num_rows: int, offset: int = 0) -> list[Example]:
    """Small orders as chats."""
    found: list[Example] = []
    for number in range(offset, offset + num_rows):
        item = ["latte", "mocha", "tea", "espresso"][number % 4]
        turns = (
            Message(role="user", content=f"{1 + number % 7} {item} for table {number}, please"),
            Message(role="assistant", content=f'{{"item": "{item}", "count": {1 + number % 7}}}'),
        )
        source = Source(digest=NOTHING, path="orders.jsonl", line=number + 1)
        found.append(Example(id=digest_json([turn.content for turn in turns]), messages=turns, source=source))
    return found


def a_dataset(blobs: Blobs, train: Sequence[Example], validation: Sequence[Example]) -> DatasetVersion:
    """A dataset version with these rows, its blobs stored."""
    splits = {
        name: SplitInfo(
            rows=len(rows),
            digest=merkle_root([row.id for row in rows]),
            blob=blobs.put(encode_examples(rows)),
        )
        for name, rows in (("train", train), ("validation", validation))
    }
    return DatasetVersion(
        ref=Ref("orders", 1),
        digest=digest_json([split.digest for split in splits.values()]),
        fingerprint=NOTHING,
        sources=(),
        rows_in=len(train) + len(validation),
        rows_kept=len(train) + len(validation),
        removed={},
        splits=splits,  # pyright: ignore[reportArgumentType]
        num_clusters=len(train) + len(validation),
        effective_clusters=float(len(train) + len(validation)),
        rejections=NOTHING,
        lineage=NOTHING,
        neighbours=NOTHING,
        vault_before=NOTHING,
        vault_after=NOTHING,
        created_at=START,
    )
