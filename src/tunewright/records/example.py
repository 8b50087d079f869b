"""One row of data, from raw file to training: messages, where they came from, and why a row was rejected."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tunewright.records.base import Record
from tunewright.values import Digest, Json

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "validation", "held_out"]


class Message(Record):
    """One turn of a chat."""

    role: Role
    content: str


class Source(Record):
    """Where a row stands in a raw file."""

    digest: Digest
    """SHA-256 of the whole file."""
    path: str
    """As the recipe names it; never part of identity."""
    line: int = Field(ge=1)
    """1-based line (JSONL), or 1-based row (CSV counts the header as line 1; Parquet the first row as 1)."""


class Example(Record):
    """A chat that can be trained or tested on. The last turn is the assistant's."""

    id: Digest
    """SHA-256 of the canonical messages as read, before masking; equal rows have equal ids."""
    messages: tuple[Message, ...]
    group: str | None = None
    """Rows of one group (customer, conversation, document) go to one side of a split whole."""
    time: datetime | None = None
    slices: dict[str, str] = Field(default_factory=dict)
    source: Source

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All turns before the last assistant turn."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The text of the last assistant turn."""
        return self.messages[-1].content


class Rejection(Record):
    """A row that did not become training or held-out data, and why. Never holds text of the row."""

    source: Source
    row: Digest | None = None
    """The example's id; absent where the line could not be read."""
    step: str
    """Which step rejected it: read, validate, quality, pii, exact_duplicate, near_duplicate, memory, ..."""
    reason: str
    """A stable snake_case name, such as `near_duplicate`."""
    evidence: dict[str, Json] = Field(default_factory=dict)
    """Numbers and references, such as {"kept": "<row id>", "jaccard": 0.91}; never raw text."""
