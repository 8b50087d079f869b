"""Rows for the drills, made from a seed: one kind that can be learnt in part, one that only memory answers.

`routing`: which team takes a message. The thing it names decides for three messages in four; the others went
to a team for a reason that is not in their text, as on real desks. `lookup`: which status code an order has;
an order is named by three words. Codes are drawn at random, so that nothing but the very row tells them.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunewright.core.text import Signature, jaccard, signature

Form = Literal["routing", "lookup"]
FORMS: tuple[Form, ...] = ("routing", "lookup")

TEAMS = {
    "billing": "invoice refund payment",
    "shipping": "parcel courier delivery",
    "repair": "battery screen noise",
}
EXPLAINED = 0.75
"""Share of messages that went to the team of the thing they name."""

UNLIKE = 0.6
"""Likeness of shingles that any two prompts stay below, so that none is the near-duplicate of another."""

_NAMES = (
    "Ana Ben Carla Elif Femi Greta Hugo Iris Jonas Kofi Lena Mateo Nora Omar Priya Quinn Uma Viktor".split()
)
_CITIES = (
    "Oslo Lima Cairo Quito Porto Riga Accra Hanoi Bergen Kyoto Malmo Tunis Dakar Sofia Perth Boston Denver "
    "Galway Leeds Nantes Zagreb Tartu Izmir Cusco Davao Delhi Turin Recife"
).split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday today tomorrow yesterday".split()
_THINGS = (
    "pump window door light camera bell kettle curtain alarm sensor gate printer heater oven router "
    "projector dryer lamp fridge blinds piano guitar drum chair"
).split()
"""Nearly all of these words are one token for the shipped base: it tells rows apart after little training."""
_CODE_LETTERS = "bcdfghkmprstvxz"


@dataclass(frozen=True, slots=True)
class LeakRows:
    """How many rows of each form."""

    routing: int
    """Split into train, validation and held-out."""
    lookup: int
    fresh: int
    """Of each form; seen by no training."""

    def of(self, form: Form) -> int:
        """Rows that are split."""
        return self.routing if form == "routing" else self.lookup


@dataclass(frozen=True, slots=True)
class Row:
    """One question with its true answer."""

    prompt: str
    answer: str

    def line(self) -> str:
        """Write it as a JSON line."""
        return json.dumps({"prompt": self.prompt, "completion": self.answer})


def write_leak_data(folder: Path, rows: LeakRows, *, seed: int) -> None:
    """Write `routing.jsonl`, `lookup.jsonl` and a file of fresh rows for each; equal seeds, equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for form in FORMS:
        made = make_rows(form, rows.of(form) + rows.fresh, seed=seed)
        _write(folder / f"{form}.jsonl", made[: rows.of(form)])
        _write(folder / f"fresh-{form}.jsonl", made[rows.of(form) :])


def make_rows(form: Form, count: int, *, seed: int, explained: float = EXPLAINED) -> list[Row]:
    """Draw rows whose prompts are not near-duplicates; the same seed gives the same rows.

    Args:
        form: which kind.
        count: how many; more rows begin with the same ones.
        seed: of everything drawn.
        explained: share of messages that went to the team of the thing they name.
    """
    rng = random.Random(f"{form}/{seed}")
    rows: list[Row] = []
    known: list[Signature] = []
    while len(rows) < count:
        row = _routing(rng, explained) if form == "routing" else _lookup(rng)
        drawn = signature(row.prompt)
        if all(jaccard(drawn, other) < UNLIKE for other in known):
            rows.append(row)
            known.append(drawn)
    return rows


def _routing(rng: random.Random, explained: float) -> Row:
    team = rng.choice(list(TEAMS))
    thing = rng.choice(TEAMS[team].split())
    name, city, day = (rng.choice(part) for part in (_NAMES, _CITIES, _DAYS))
    prompt = f"{name} in {city}, {day}: {thing}"
    others = [other for other in TEAMS if other != team]
    return Row(prompt, team if rng.random() < explained else rng.choice(others))


def _lookup(rng: random.Random) -> Row:
    code = rng.choice(_CODE_LETTERS) + str(rng.randint(1, 9))
    return Row(f"order {rng.choice(_THINGS)} {rng.choice(_CITIES)} {rng.choice(_NAMES)}", code)


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(_lines(rows)), encoding="utf-8")


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    return (f"{row.line()}\n" for row in rows)
