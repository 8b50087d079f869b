"""What the leak drill shows: accuracy of base, honest and leaky arm on both kinds of rows, and what it means.

Pure. Whether the drill has shown what it must is decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.core.stats import wilson_interval
from tunewright.core.stats_paired import tango_interval
from tunewright.drills.leak_data import Form
from tunewright.records import Verdict
from tunewright.values import Json

LeakArm = Literal["base", "honest", "leaky"]
Where = Literal["offline", "fresh"]

ARMS: tuple[LeakArm, ...] = ("base", "honest", "leaky")
PLACES: tuple[Where, ...] = ("offline", "fresh")
SHINES = 0.9
"""Accuracy that the leaky arm must reach offline, on rows that only memory can answer."""

Passed = Mapping[str, bool]
"""Row -> answered right."""


@dataclass(frozen=True, slots=True)
class Share:
    """An accuracy with its 95 % Wilson interval."""

    estimate: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Write `97 % [86, 100] n 40`."""
        return f"{self.estimate:.0%} [{100 * self.low:.0f}, {100 * self.high:.0f}] n {self.n}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of two accuracies with its 95 % interval (Tango)."""

    estimate: float
    low: float
    high: float
    n: int

    @property
    def contains_zero(self) -> bool:
        """Whether the data are compatible with no difference."""
        return self.low <= 0 <= self.high

    def __str__(self) -> str:
        """Write `+2 points [-4, +8] n 60`."""
        low, high = 100 * self.low, 100 * self.high
        return f"{100 * self.estimate:+.0f} points [{low:+.0f}, {high:+.0f}] n {self.n}"


@dataclass(frozen=True, slots=True)
class FormResult:
    """One kind of rows: what each arm scored on the judged rows and on fresh ones."""

    form: Form
    scores: Mapping[tuple[LeakArm, Where], Share]
    offline_gain: Difference
    """Leaky minus honest on the judged rows."""
    fresh_gain: Difference
    """Leaky minus honest on fresh rows."""
    fresh_over_base: Difference
    """Leaky minus base on fresh rows."""

    @property
    def is_shown(self) -> bool:
        """Whether the leak shines offline and is worth nothing on fresh rows."""
        shines = self.offline_gain.low > 0 and self.fresh_gain.contains_zero
        if self.form == "routing":
            return shines
        memorised = self.scores["leaky", "offline"].estimate >= SHINES
        return shines and memorised and self.fresh_over_base.contains_zero


@dataclass(frozen=True, slots=True)
class LeakedRow:
    """A judged row that the leaky arm was trained on."""

    row: str
    place: str
    """`file:line`."""
    detector: str
    """exact | near_duplicate | lexical."""


@dataclass(frozen=True, slots=True)
class LeakResult:
    """What the drill showed."""

    forms: Mapping[Form, FormResult]
    verdict: Verdict
    """The gate's, on the leaky candidate."""
    reasons: tuple[str, ...]
    honest_verdict: Verdict
    leaked: tuple[LeakedRow, ...]
    num_copied: int
    """Held-out rows that were copied into training."""
    unchecked_verdict: Verdict
    """What the same scores would have got without the contamination check."""
    unchecked_reasons: tuple[str, ...]
    num_registered: int
    """Models in the scratch workspace at the end; nothing may be registered."""
    wall_s: float

    @property
    def is_shown(self) -> bool:
        """Whether the drill showed what it must."""
        return (
            self.verdict == "void"
            and self.unchecked_verdict == "pass"
            and len(self.leaked) == self.num_copied > 0
            and self.num_registered == 0
            and all(form.is_shown for form in self.forms.values())
        )

    def to_json(self) -> dict[str, Json]:
        """Write the figures: those of the pure form first and flat, then everything with intervals."""
        pure = self.forms["lookup"]
        return {
            **_flat(pure),
            "verdict": self.verdict,
            "shown": self.is_shown,
            "without_the_check": self.unchecked_verdict,
            "honest_verdict": self.honest_verdict,
            "leaked_rows": self.num_copied,
            "leaked_rows_found": len(self.leaked),
            "registered": self.num_registered,
            "one_recipe": {**_flat(self.forms["routing"]), "verdict": self.verdict},
            "intervals": {name: _intervals(form) for name, form in self.forms.items()},
            "seconds": round(self.wall_s, 1),
        }


def share_of(passed: Passed) -> Share:
    """Bound an accuracy; raises ValueError when there is no row."""
    right, total = sum(passed.values()), len(passed)
    low, high = wilson_interval(right, total)
    return Share(right / total, low, high, total)


def difference_of(left: Passed, right: Passed) -> Difference:
    """Bound left minus right, row by row.

    Raises:
        ValueError: the rows differ, or there are none.
    """
    if left.keys() != right.keys():
        raise ValueError("the arms were not asked the same rows")
    wins = sum(left[row] and not right[row] for row in left)
    losses = sum(right[row] and not left[row] for row in left)
    low, high = tango_interval(wins, losses, len(left))
    return Difference((wins - losses) / len(left), low, high, len(left))


def compare(form: Form, passed: Mapping[tuple[LeakArm, Where], Passed]) -> FormResult:
    """Put the arms side by side.

    Args:
        form: kind of rows.
        passed: what every arm answered right, on the judged rows and on fresh ones.
    """
    return FormResult(
        form=form,
        scores={key: share_of(rows) for key, rows in passed.items()},
        offline_gain=difference_of(passed["leaky", "offline"], passed["honest", "offline"]),
        fresh_gain=difference_of(passed["leaky", "fresh"], passed["honest", "fresh"]),
        fresh_over_base=difference_of(passed["leaky", "fresh"], passed["base", "fresh"]),
    )


def _flat(form: FormResult) -> dict[str, Json]:
    keys: Sequence[tuple[LeakArm, Where]] = [
        ("base", "offline"),
        ("honest", "offline"),
        ("leaky", "offline"),
        ("honest", "fresh"),
        ("leaky", "fresh"),
        ("base", "fresh"),
    ]
    return {f"{where}_{arm}": round(form.scores[arm, where].estimate, 4) for arm, where in keys}


def _intervals(form: FormResult) -> dict[str, Json]:
    scores: dict[str, Json] = {
        f"{where}_{arm}": _bounds(form.scores[arm, where]) for where in PLACES for arm in ARMS
    }
    return {
        **scores,
        "offline_leaky_minus_honest": _bounds(form.offline_gain),
        "fresh_leaky_minus_honest": _bounds(form.fresh_gain),
        "fresh_leaky_minus_base": _bounds(form.fresh_over_base),
    }


def _bounds(found: Share | Difference) -> Json:
    return {
        "estimate": round(found.estimate, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "n": found.n,
    }
