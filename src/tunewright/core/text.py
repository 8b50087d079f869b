"""Text as it is compared: canonical form, content ids, prompts, shingle signatures. Never what is trained on.

Two rows are compared by their *prompt*, which is what the users said: assistant turns are the answer, and a
system turn is an instruction many rows share. If system turns took part, one long shared system turn would
make all rows near-duplicates of each other, and adding a system turn later would let yesterday's held-out
rows into training unrecognised. What else differs between two rows is compared by `answer_digest`.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xxhash
from numpy.typing import NDArray

from tunewright.records import Message
from tunewright.values import Digest, digest_bytes, digest_json

WORD_SHINGLE = 3
CHAR_GRAM = 5
SHORT_TOKENS = 12
"""Below this many tokens a text is compared by characters."""

_DROPPED = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\u200b\\ufeff]")
_SURROGATE = re.compile("[\\ud800-\\udfff]")
_SPACE = re.compile(r"\s{2,}|[^\S \n]")
"""White space to fold: every run but a single space or newline."""
_TOKEN = re.compile(r"\w+")

_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


def canonical_text(text: str) -> str:
    """Bring a text into the form it is compared and identified by.

    NFC; control characters, zero-width spaces and byte order marks out; lone surrogates replaced; every run
    of white space becomes one newline if it holds one, else one space; ends stripped.
    """
    kept = _SURROGATE.sub("\ufffd", _DROPPED.sub("", unicodedata.normalize("NFC", text)))
    folded = _SPACE.sub(lambda run: "\n" if _breaks_line(run.group()) else " ", kept)
    return folded.strip()


def canonical_messages(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Bring every turn into canonical form."""
    return tuple(Message(role=turn.role, content=canonical_text(turn.content)) for turn in messages)


def content_id(messages: Sequence[Message]) -> Digest:
    """Hash the canonical messages; equal for rows that differ in white space only."""
    return digest_json([[turn.role, canonical_text(turn.content)] for turn in messages])


def prompt_text(messages: Sequence[Message]) -> str:
    """Join the canonical user turns by newlines: what split, contamination and near-duplicates compare."""
    return "\n".join(canonical_text(turn.content) for turn in messages if turn.role == "user")


def text_digest(text: str) -> Digest:
    """Hash the canonical form of a text; of a `prompt_text`, it names the exact prompt."""
    return digest_bytes(canonical_text(text).encode())


def answer_digest(messages: Sequence[Message]) -> Digest:
    """Hash every canonical turn that is not the user's, in order: what else must be equal in a duplicate."""
    return digest_json(
        [[turn.role, canonical_text(turn.content)] for turn in messages if turn.role != "user"]
    )


def words_of(text: str) -> list[str]:
    """Split into lower-case words and numbers without punctuation (NFKC, casefold)."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """A text as two sets of hashes. Equal on every machine and in every process."""

    num_tokens: int
    """Words and numbers in the text; decides which of the two sets is compared."""
    words: Hashes
    """Hashed word 3-shingles, sorted, unique; one hash of the whole for texts of 1 or 2 words."""
    chars: Hashes
    """Hashed character 5-grams, sorted, unique; one hash of the whole for texts under 5 characters."""

    @property
    def is_short(self) -> bool:
        """Say whether pairs with this text are compared by characters."""
        return self.num_tokens < SHORT_TOKENS

    @property
    def key(self) -> bytes:
        """Bytes that are equal for equal signatures."""
        return self.words.tobytes() + b"|" + self.chars.tobytes()


def signature(text: str) -> Signature:
    """Hash a text's shingles. Case, punctuation and white space do not count.

    A text without any word (only punctuation or symbols) is represented by its characters as they are.
    """
    words = words_of(text)
    plain = " ".join(words) if words else canonical_text(text).casefold()
    hashes = np.fromiter((_hash_word(word) for word in words), np.uint64, len(words))
    points = np.frombuffer(plain.encode("utf-32-le"), np.uint32).astype(np.uint64)
    return Signature(len(words), _shingles(hashes, WORD_SHINGLE), _shingles(points, CHAR_GRAM))


def jaccard(a: Signature, b: Signature) -> float:
    """Compare two signatures: characters if the shorter text has fewer than 12 tokens, else words.

    Returns:
        |a & b| / |a | b|, a fraction in [0, 1]; 0.0 if either text is empty.
    """
    short = a.is_short or b.is_short
    left, right = (a.chars, b.chars) if short else (a.words, b.words)
    if not left.size or not right.size:
        return 0.0
    common = np.intersect1d(left, right, assume_unique=True).size
    return common / (left.size + right.size - common)


def signatures(texts: Sequence[str]) -> list[Signature]:
    """Hash many texts; equal texts share one signature."""
    known: dict[str, Signature] = {}
    return [_remember(known, text) for text in texts]


def _remember(known: dict[str, Signature], text: str) -> Signature:
    if text not in known:
        known[text] = signature(text)
    return known[text]


def _breaks_line(run: str) -> bool:
    return len(run.splitlines()) > 1 or run.endswith(("\n", "\r", "\x85", "\u2028", "\u2029"))


@lru_cache(maxsize=1 << 17)
def _hash_word(word: str) -> int:
    return xxhash.xxh3_64_intdigest(word.encode())


def _shingles(items: Hashes, width: int) -> Hashes:
    """Hash every window of `width` items (or all items, if fewer); sorted, unique."""
    if not items.size:
        return np.empty(0, np.uint64)
    width = min(width, items.size)
    count = items.size - width + 1
    state = np.full(count, np.uint64(width))
    for offset in range(width):
        state = _mix(state * _GOLDEN + items[offset : offset + count])
    return np.unique(state)


def _mix(values: Hashes) -> Hashes:
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
