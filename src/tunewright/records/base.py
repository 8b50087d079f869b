"""The base of every stored record: frozen, validated, unknown fields and NaN refused."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunewright.values import Digest, digest_json


class Record(BaseModel):
    """A frozen value that is stored or written by a user."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def to_json(self) -> Mapping[str, Any]:  # Any: JSON of every shape
        """Dump to plain JSON values."""
        return self.model_dump(mode="json")

    def content_digest(self) -> Digest:
        """Hash the canonical JSON of all fields."""
        return digest_json(self.to_json())
