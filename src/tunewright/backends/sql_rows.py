"""Rows of the registry database as records, aliases and events; what was changed by hand is named."""

import json
from collections.abc import Mapping
from contextlib import suppress

from pydantic import ValidationError
from sqlalchemy import RowMapping

from tunewright.errors import IntegrityError, LedgerBroken, UsageError
from tunewright.records import RECORD_KINDS, AliasState, LedgerEvent, Record
from tunewright.values import Json, digest_bytes


def read_record(row: RowMapping) -> Record:
    """Parse a stored record, after checking that its bytes are those of its event, its columns its own."""
    body = str(row["body"])
    try:
        if digest_bytes(body.encode()) != row["record_digest"]:
            raise ValueError("its bytes do not hash to what its ledger event says")
        fields = json.loads(body)
        ref = f"{row['name']}@{row['version']}"
        told = (f"{row['kind']}:{ref}", ref, row["fingerprint"])
        if told != (row["node"], fields["ref"], fields["fingerprint"]):
            raise ValueError("kind, name, version or fingerprint are not those of its content")
        return RECORD_KINDS[row["kind"]].model_validate_json(body)
    except ValueError as error:  # pydantic's ValidationError is one
        raise IntegrityError(
            f"record {row['node']} was changed in the database: {_short(error)}. "
            "`tunewright models verify` names the first broken link; restore the registry from a backup."
        ) from error


def read_alias(row: RowMapping) -> AliasState:
    """Parse where an alias points. Raises LedgerBroken."""
    try:
        return AliasState.model_validate(dict(row))
    except (ValidationError, UsageError) as error:
        raise LedgerBroken(
            f"alias {row['name']}/{row['alias']} was changed in the database: {_short(error)}. "
            "Restore the registry from a backup, or replay the ledger's alias events."
        ) from error


def event_fields(row: RowMapping) -> Mapping[str, Json]:
    """Give an event row its JSON shape; what does not parse stays as it is, for verification to name."""
    fields: dict[str, Json] = {key: _plain(value) for key, value in row.items()}
    with suppress(ValueError, RecursionError):
        fields["detail"] = json.loads(str(fields["detail"]))
    return fields


def _plain(value: object) -> Json:
    return value if isinstance(value, str | int | float) or value is None else repr(value)


def read_event(fields: Mapping[str, Json], where: str) -> LedgerEvent:
    """Parse an event; `where` names the database. Raises LedgerBroken."""
    try:
        return LedgerEvent.model_validate(fields)
    except ValidationError as error:
        raise LedgerBroken(
            f"ledger of {where}: row {fields['seq']} is no event: {_short(error)}. "
            "`tunewright models verify` names the first broken link; restore the registry from a backup."
        ) from error


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error)
