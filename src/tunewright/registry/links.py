"""What one ledger row must satisfy, and which blobs a record names. Pure; it never trusts what it reads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from tunewright.core.ledger import GENESIS, event_hash, replay_aliases
from tunewright.errors import UsageError
from tunewright.records import (
    RECORD_KINDS,
    AliasState,
    DatasetVersion,
    EvalReport,
    Harvest,
    LedgerEvent,
    ModelVersion,
    Record,
    TrainingRun,
)
from tunewright.values import Digest, Json, digest_json

Row = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class BlobUse:
    """A blob that a record names."""

    label: str
    digest: Digest
    is_tree: bool = False


def link_name(row: Row) -> str:
    """Name a ledger row for people."""
    return f"event {row.get('seq')} ({row.get('kind')} {row.get('subject')})"


def link_problems(row: Row, before: Row | None) -> list[str]:
    """Check one ledger row against itself and against the row before it."""
    expected = (_as_int(before.get("seq")) if before else 0) + 1
    problems: list[str] = []
    if row.get("seq") != expected:
        problems.append(f"its number is not {expected}: an event before it was removed or put in")
    if row.get("previous") != (before.get("hash") if before else GENESIS):
        problems.append("it does not continue the event before it")
    try:
        if event_hash(row) != row.get("hash"):
            problems.append("it was edited: its fields do not hash to its hash")
        LedgerEvent.model_validate(row)
    except ValidationError as error:
        problems.append(f"it is no event: {_first(error)}")
    except (ValueError, TypeError, RecursionError) as error:
        problems.append(f"it holds what is no JSON: {error}")
    return problems


def read_record(node: str, text: str | None, expected: Json) -> Record | str:
    """Parse a stored record and check it against its event; returns the problem where it does not hold.

    Args:
        node: such as `model:support@2`.
        text: stored JSON, None when the record is gone.
        expected: the digest its event names.
    """
    if text is None:
        return f"record {node} is gone"
    try:
        fields = json.loads(text)
        if digest_json(fields) != expected:
            return f"record {node} was edited: it does not hash to what its event says"
        kind, _, ref = node.partition(":")
        record = RECORD_KINDS[kind].model_validate(fields, strict=False)
    except ValidationError as error:
        return f"record {node} is no {node.partition(':')[0]}: {_first(error)}"
    except (ValueError, TypeError, RecursionError, UsageError) as error:
        return f"record {node} holds what is no JSON: {error}"
    except KeyError:
        return f"record {node} is of no known kind"
    return record if record.to_json().get("ref") == ref else f"record {node} calls itself otherwise"


def named_blobs(record: Record) -> list[BlobUse]:
    """List every blob a record names."""
    match record:
        case DatasetVersion():
            splits = [BlobUse(f"split {name}", info.blob) for name, info in record.splits.items()]
            return [
                *splits,
                BlobUse("rejections", record.rejections),
                BlobUse("lineage", record.lineage),
                BlobUse("neighbours", record.neighbours),
            ]
        case TrainingRun():
            tokens = [BlobUse(f"tokens of {name}", digest) for name, digest in record.token_blobs.items()]
            rows = BlobUse("trained rows", record.trained_rows)
            return [*tokens, rows, BlobUse("candidate", record.candidate, is_tree=True)]
        case EvalReport():
            return [BlobUse("items", record.items), BlobUse("candidate", record.candidate, is_tree=True)]
        case ModelVersion():
            return [BlobUse("adapter", record.adapter, is_tree=True)]
        case Harvest():
            return [BlobUse("rows", record.blob)]
        case _:
            return []


def named_records(record: Record) -> list[str]:
    """List the nodes of the records a record was made from."""
    match record:
        case DatasetVersion():
            return [f"dataset:{parent}" for parent in record.parents]
        case TrainingRun():
            return [f"dataset:{record.dataset}"]
        case EvalReport():
            return [f"dataset:{record.dataset}", *([f"run:{record.run}"] if record.run else [])]
        case ModelVersion():
            return [f"dataset:{record.dataset}", f"run:{record.run}", f"evaluation:{record.evaluation}"]
        case _:
            return []


def alias_problems(rows: Sequence[Row], found: Sequence[AliasState]) -> list[str]:
    """Compare the alias table with what the alias events say."""
    told = {(state.name, state.alias): state for row in rows for state in _alias_move(row)}
    real = {(state.name, state.alias): state for state in found}
    return [
        f"alias {name}/{alias} points to {_target(real.get((name, alias)))}, "
        f"but the ledger says {_target(told.get((name, alias)))}"
        for name, alias in sorted(told.keys() | real.keys())
        if told.get((name, alias)) != real.get((name, alias))
    ]


def _alias_move(row: Row) -> list[AliasState]:
    """Read the move an event tells of; nothing for other events and for what cannot be read."""
    try:
        return replay_aliases([LedgerEvent.model_validate(row)])
    except (ValidationError, UsageError):
        return []


def _target(state: AliasState | None) -> str:
    return "nothing" if state is None else f"{state.target} (revision {state.revision})"


def _as_int(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _first(error: ValidationError) -> str:
    problem = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
