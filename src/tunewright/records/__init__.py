"""What is stored. Frozen, validated, no I/O."""

from tunewright.records.base import Record
from tunewright.records.dataset import DatasetVersion, SourceCount, SplitInfo
from tunewright.records.evaluation import Arm, ArmScores, Check, EvalReport, Interval, Verdict
from tunewright.records.example import Example, Message, Rejection, Source, Split
from tunewright.records.ledger import Edge, EventDraft, LedgerEvent
from tunewright.records.model import AliasState, ModelVersion, Probe, Waiver
from tunewright.records.run import BaseModelRef, MetricPoint, SelfCheck, TrainingRun

RECORD_KINDS: dict[str, type[Record]] = {
    "dataset": DatasetVersion,
    "run": TrainingRun,
    "evaluation": EvalReport,
    "model": ModelVersion,
}

__all__ = [
    "RECORD_KINDS",
    "AliasState",
    "Arm",
    "ArmScores",
    "BaseModelRef",
    "Check",
    "DatasetVersion",
    "Edge",
    "EvalReport",
    "EventDraft",
    "Example",
    "Interval",
    "LedgerEvent",
    "Message",
    "MetricPoint",
    "ModelVersion",
    "Probe",
    "Record",
    "Rejection",
    "SelfCheck",
    "Source",
    "SourceCount",
    "Split",
    "SplitInfo",
    "TrainingRun",
    "Verdict",
    "Waiver",
]
