"""Lexical retrieval: the nearest text by weighted words and numbers. Sees rephrasing that keeps rare words.

Score of a pair = TF-IDF cosine x (0.5 + 0.5 x Jaccard of the multisets of numbers), in [0, 1], over lower-
case stemmed tokens with number words turned into digits; a term said n times counts 1 + ln n. It cannot see a
paraphrase in other words or languages. Measured on 660 rephrased GSM8K questions, threshold fitted on one
half of the clean rows: recall .93 at 1.2 % and .80 at 0.1 % false positives on the other half.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunewright.core.text import words_of

BLOCK_CELLS = 4_000_000
"""32 MB an array of scores."""

_DIGITS = 6
"""Scores are rounded to this, so that the order of a sum does not make equal scores differ."""

_ONES = "zero one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_SMALL = {word: n for n, word in enumerate(f"{_ONES} {_TEENS}".split())}
_TENS = {
    word: 10 * n for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}

_Floats = NDArray[np.float64]
_T = TypeVar("_T")


class LexicalIndex:
    """Texts to search in.

    Words are weighted by how rare they are among `reference` (the indexed texts by default). With a reference
    that stays the same, the score of a pair does not depend on what else is indexed, so scores of two indexes
    can be compared.
    """

    def __init__(self, texts: Sequence[str], *, reference: Sequence[str] | None = None) -> None:
        indexed = [lexical_tokens(text) for text in texts]
        weighed = indexed if reference is None else [lexical_tokens(text) for text in reference]
        self._num_texts = len(indexed)
        self._rarity = _Rarity(len(weighed), Counter(token for tokens in weighed for token in set(tokens)))
        self._words = _vocabulary(indexed)
        self._numbers = _vocabulary([_numbers(tokens) for tokens in indexed])
        self._index = self._vectors(indexed)

    def best(self, texts: Sequence[str], *, block_cells: int = BLOCK_CELLS) -> list[tuple[int, float]]:
        """Find the best match of each text.

        Args:
            texts: what to search for.
            block_cells: query x index cells scored at a time; bounds memory, changes no result.

        Returns:
            (index of the match, score) for each text; the smallest index among equals; (-1, 0.0) where no
            word is shared or nothing is indexed.
        """
        if not self._num_texts:
            return [(-1, 0.0)] * len(texts)
        block = max(1, block_cells // self._num_texts)
        tokens = [lexical_tokens(text) for text in texts]
        found: list[tuple[int, float]] = []
        for start in range(0, len(tokens), block):
            scores = _scores(self._vectors(tokens[start : start + block]), self._index)
            places = scores.argmax(axis=1)
            values = scores[np.arange(len(places)), places]
            found += [
                (int(place), round(float(value), _DIGITS)) if value > 0 else (-1, 0.0)
                for place, value in zip(places, values, strict=True)
            ]
        return found

    def _vectors(self, rows: Sequence[Sequence[str]]) -> "_Vectors":
        words: list[dict[int, float]] = []
        for tokens in rows:
            weights = {
                term: (1 + math.log(count)) * self._rarity.of(term) for term, count in Counter(tokens).items()
            }
            norm = math.sqrt(math.fsum(weight * weight for weight in weights.values())) or 1.0
            known = [(self._words[term], weight) for term, weight in weights.items() if term in self._words]
            words.append({place: weight / norm for place, weight in known})
        numbers = [_numbers(tokens) for tokens in rows]
        ones = [{self._numbers[item]: 1.0 for item in row if item in self._numbers} for row in numbers]
        sizes = np.array([len(row) for row in numbers], np.float64)
        return _Vectors(_matrix(words, len(self._words)), _matrix(ones, len(self._numbers)), sizes)


def fit_threshold(clean_scores: Sequence[float], fpr: float) -> float:
    """Find the threshold above which at most a share `fpr` of scores known to be clean lie.

    It is the (k + 1)-th largest clean score, k = floor(fpr x n): at most k scores are strictly greater. A row
    is flagged when its score is strictly greater than the threshold.

    Args:
        clean_scores: best scores of rows that have no true match.
        fpr: declared false-positive rate, 0 <= fpr < 1.

    Returns:
        A score in [0, 1]; 1.0 (nothing is flagged) without clean scores.

    Raises:
        ValueError: the rate is out of range.
    """
    if not 0 <= fpr < 1:
        raise ValueError(f"false-positive rate {fpr} is out of range; expected 0 <= fpr < 1")
    if not clean_scores:
        return 1.0
    return sorted(clean_scores, reverse=True)[math.floor(fpr * len(clean_scores))]


def lexical_tokens(text: str) -> list[str]:
    """Split into lower-case stemmed words; runs of number words become one number (`twenty five` -> `25`)."""
    tokens: list[str] = []
    run: list[str] = []
    for word in words_of(text):
        if word in _SMALL or word in _TENS or (run and word in _SCALES):
            run.append(word)
            continue
        tokens += _numbers_said(run)
        run = []
        tokens.append(_stem(word))
    return tokens + _numbers_said(run)


@dataclass(frozen=True, slots=True)
class _Rarity:
    """Inverse document frequency, smoothed as if one more text held every word."""

    num_texts: int
    counts: Counter[str]

    def of(self, term: str) -> float:
        return math.log((1 + self.num_texts) / (1 + self.counts[term])) + 1.0


@dataclass(frozen=True, slots=True)
class _Vectors:
    words: csr_matrix
    """Unit length over all words of a text, known to the index or not."""
    numbers: csr_matrix
    """1 for each (number, occurrence) the index knows."""
    num_numbers: _Floats
    """Numbers in each text, known or not."""


def _scores(queries: _Vectors, index: _Vectors) -> _Floats:
    cosine: _Floats = (queries.words @ index.words.T).toarray()
    common: _Floats = (queries.numbers @ index.numbers.T).toarray()
    union = queries.num_numbers[:, None] + index.num_numbers[None, :] - common
    agreement = np.divide(common, union, out=np.ones_like(common), where=union > 0)
    return np.minimum(cosine, 1.0) * (0.5 + 0.5 * agreement)


def _numbers(tokens: Sequence[str]) -> list[tuple[str, int]]:
    """List the numbers of a text; the second 5 is (5, 1), so that multisets compare as sets."""
    counts = Counter(token for token in tokens if token.isdigit())
    return [(number, nth) for number, count in counts.items() for nth in range(count)]


def _vocabulary(rows: Sequence[Sequence[_T]]) -> dict[_T, int]:
    places: dict[_T, int] = {}
    for row in rows:
        for term in row:
            places.setdefault(term, len(places))
    return places


def _matrix(rows: Sequence[Mapping[int, float]], num_columns: int) -> csr_matrix:
    columns = np.fromiter((place for row in rows for place in row), np.int64)
    values = np.fromiter((value for row in rows for value in row.values()), np.float64)
    starts = np.cumsum([0, *(len(row) for row in rows)])
    return csr_matrix((values, columns, starts), shape=(len(rows), max(1, num_columns)))


def _numbers_said(words: Sequence[str]) -> list[str]:
    """Turn a run of number words into numbers: `two hundred five` -> 205, `two three` -> 2, 3."""
    numbers: list[int] = []
    room = 1  # what is said next joins the number before it if it is smaller than this
    for word in words:
        if word in _SCALES:
            numbers[-1] = max(numbers[-1], 1) * _SCALES[word]
            room = _SCALES[word]
            continue
        value = _SMALL[word] if word in _SMALL else _TENS[word]
        if numbers and 0 < value < room:
            numbers[-1] += value
        else:
            numbers.append(value)
        room = 10 if word in _TENS else 1
    return [str(number) for number in numbers]


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """Strip plural, -ing, -ed and a final e from English words of 4 letters and more; a final y becomes i."""
    if len(word) < 4 or not word.isalpha():
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending, least in (("ing", 6), ("ed", 5)):
        if word.endswith(ending) and len(word) >= least:
            word = _undouble(word[: -len(ending)])
            break
    if word.endswith("y"):
        return word[:-1] + "i"
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def _undouble(stem: str) -> str:
    """Write `runn` as `run`; `call`, `miss` and `add` stay."""
    doubled = len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz"
    return stem[:-1] if doubled else stem
