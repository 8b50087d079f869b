"""Why a row is not kept: what every row step answers with, in place of an exception."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tunewright.values import Json


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason against a row, without any text of it."""

    reason: str
    """A stable snake_case name."""
    evidence: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Numbers and field names; never raw text."""
