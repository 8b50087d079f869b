"""What a tuned model has to beat beside the bare base: its best few-shot prompt, and the nearest train row.

Examples come from the train rows, the choice between prompts is made on validation rows; held-out rows are
only ever asked.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunewright.core.lexical import LexicalIndex
from tunewright.core.scorers import Answer
from tunewright.core.text import prompt_text
from tunewright.evals.items import Chat, as_chat
from tunewright.records import Example

SEEDS = (0, 1)
"""Choices of examples that are tried for each k."""

TRIAL_ROWS = 24
"""Validation rows each prompt is tried on."""

EXAMPLE_SHARE = 0.25
"""An example that fills more of the context than this is not used in a prompt."""


@dataclass(frozen=True, slots=True)
class FewShot:
    """A prompt that puts k solved rows before the question."""

    examples: tuple[Example, ...]
    seed: int

    @property
    def label(self) -> str:
        """As reports name the arm's model."""
        return f"few_shot:k={len(self.examples)}"

    def chat(self, example: Example) -> Chat:
        """Put the examples before the row's question; its system turn comes first, theirs are left out."""
        asked = as_chat(example.prompt)
        system = tuple(turn for turn in asked[:1] if turn["role"] == "system")
        shots = tuple(
            turn for shot in self.examples for turn in as_chat(shot.messages) if turn["role"] != "system"
        )
        return (*system, *shots, *asked[len(system) :])

    def without_first(self, count: int) -> "FewShot":
        """Leave out the first examples."""
        return FewShot(self.examples[count:], self.seed)


@dataclass(frozen=True, slots=True)
class Room:
    """What fits into the base's trained context."""

    context_tokens: int
    """Positions the base was trained with."""
    answer_tokens: int
    """Kept free for the answer."""
    count: Callable[[Chat], int]
    """Tokens of a prompt."""

    def fits(self, chat: Chat) -> bool:
        """Is there room for the prompt and the answer?"""
        return self.count(chat) + self.answer_tokens <= self.context_tokens


@dataclass(frozen=True, slots=True)
class Choice:
    """The best prompt and how it was found."""

    best: FewShot
    scores: Mapping[str, float]
    """`k=2 seed=0` -> metric on validation rows."""
    num_trial_rows: int
    cap: int | None
    """Most examples that fit the trained context, where that is fewer than the recipe asks for."""


def candidate_prompts(
    train: Sequence[Example], trial: Sequence[Example], most: int, room: Room
) -> tuple[list[FewShot], int | None]:
    """Build the prompts to try: k = 1, 2, 4, ... up to `most`, each with several choices of examples.

    Args:
        train: rows to take examples from.
        trial: rows every prompt must fit with.
        most: most examples.
        room: the base's context.

    Returns:
        The prompts, smallest first, and the cap where the context is what limits k.
    """
    chosen: dict[tuple[int, int], FewShot] = {}
    cap = 0
    for seed in SEEDS:
        order = _order(train, seed, most, room)
        longest = max(
            (k for k in range(len(order) + 1) if _fits_all(FewShot(order[:k], seed), trial, room)), default=0
        )
        cap = max(cap, longest)
        for k in _ladder(min(most, longest)):
            chosen[k, seed] = FewShot(order[:k], seed)
    prompts = [chosen[key] for key in sorted(chosen)]
    return prompts, cap if cap < min(most, len(train)) else None


def choose_prompt(
    prompts: Sequence[FewShot],
    trial: Sequence[Example],
    ask: Callable[[Sequence[Chat]], Sequence[Answer]],
    metric: Callable[[Sequence[Answer]], float],
    cap: int | None,
) -> Choice:
    """Try every prompt on validation rows and keep the best; a tie goes to the shorter prompt.

    Args:
        prompts: smallest first, at least one.
        trial: validation rows.
        ask: answers for chats, in order.
        metric: answers to the trial rows -> figure, higher is better.
        cap: handed through to the choice.
    """
    if len(prompts) == 1 or not trial:
        return Choice(prompts[-1], {}, 0, cap)
    answers = ask([prompt.chat(row) for prompt in prompts for row in trial])
    figures = [
        metric(answers[index * len(trial) : (index + 1) * len(trial)]) for index in range(len(prompts))
    ]
    best = max(range(len(prompts)), key=lambda index: (figures[index], -index))
    scores = {
        f"k={len(prompt.examples)} seed={prompt.seed}": figure
        for prompt, figure in zip(prompts, figures, strict=True)
    }
    return Choice(prompts[best], scores, len(trial), cap)


def fitted_chat(prompt: FewShot, example: Example, room: Room) -> Chat:
    """Write the prompt for a row, without its first examples where the row is too long for all of them."""
    for dropped in range(len(prompt.examples)):
        chat = prompt.without_first(dropped).chat(example)
        if room.fits(chat):
            return chat
    return as_chat(example.prompt)


def trial_rows(validation: Sequence[Example], count: int = TRIAL_ROWS) -> list[Example]:
    """Choose validation rows by the hash of their id."""
    return sorted(validation, key=lambda row: _hash("trial", row.id))[:count]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The train row most like a row to be judged."""

    answer: Answer
    """Its answer; empty where no train row shares a word."""
    row: str | None
    similarity: float
    """Lexical score in [0, 1]; 0.0 where nothing is shared."""


def nearest_examples(train: Sequence[Example], asked: Mapping[str, Example]) -> dict[str, Nearest]:
    """Answer every row with the answer of the closest train prompt."""
    if not train or not asked:
        return {}
    index = LexicalIndex([prompt_text(example.messages) for example in train])
    found = index.best([prompt_text(example.messages) for example in asked.values()])
    return {
        row: Nearest(Answer(train[best].answer), train[best].id, float(score))
        if best >= 0
        else Nearest(Answer(""), None, 0.0)
        for row, (best, score) in zip(asked, found, strict=True)
    }


def _order(train: Sequence[Example], seed: int, most: int, room: Room) -> tuple[Example, ...]:
    """Take the first rows by hash that are short enough."""
    chosen: list[Example] = []
    for example in sorted(train, key=lambda row: _hash(f"few_shot:{seed}", row.id)):
        if len(chosen) == most:
            break
        if room.count(as_chat(example.messages)) <= EXAMPLE_SHARE * room.context_tokens:
            chosen.append(example)
    return tuple(chosen)


def _fits_all(prompt: FewShot, trial: Sequence[Example], room: Room) -> bool:
    return all(room.fits(prompt.chat(row)) for row in trial)


def _ladder(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    steps = [1 << power for power in range(most.bit_length()) if 1 << power <= most]
    return sorted({*steps, most} - {0})


def _hash(salt: str, row: str) -> str:
    return hashlib.sha256(f"{salt}:{row}".encode()).hexdigest()
