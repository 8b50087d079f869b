"""What is stored. Frozen, validated, no I/O."""

from tunewright.records.base import Record
from tunewright.records.dataset import DatasetVersion, SourceCount, SplitInfo
from tunewright.records.evaluation import Arm, ArmScores, Check, EvalReport, Interval, Verdict
from tunewright.records.example import Example, Message, Rejection, Source, Split
from tunewright.records.ledger import Edge, EventDraft, LedgerEvent
from tunewright.records.model import AliasState, ModelVersion, Probe, Waiver
from tunewright.records.rollout import (
    LIVE_PHASES,
    Baseline,
    LiveScorer,
    Phase,
    Rollout,
    RolloutPolicy,
    RolloutState,
)
from tunewright.records.run import BaseModelRef, MetricPoint, SelfCheck, TrainingRun
from tunewright.records.trace import (
    Consent,
    Feedback,
    FeedbackKind,
    Harvest,
    ReviewStatus,
    RolloutArm,
    Trace,
    TraceStatus,
    TraceText,
)

RECORD_KINDS: dict[str, type[Record]] = {
    "dataset": DatasetVersion,
    "run": TrainingRun,
    "evaluation": EvalReport,
    "model": ModelVersion,
    "rollout": Rollout,
    "harvest": Harvest,
}

__all__ = [
    "LIVE_PHASES",
    "RECORD_KINDS",
    "AliasState",
    "Arm",
    "ArmScores",
    "BaseModelRef",
    "Baseline",
    "Check",
    "Consent",
    "DatasetVersion",
    "Edge",
    "EvalReport",
    "EventDraft",
    "Example",
    "Feedback",
    "FeedbackKind",
    "Harvest",
    "Interval",
    "LedgerEvent",
    "LiveScorer",
    "Message",
    "MetricPoint",
    "ModelVersion",
    "Phase",
    "Probe",
    "Record",
    "Rejection",
    "ReviewStatus",
    "Rollout",
    "RolloutArm",
    "RolloutPolicy",
    "RolloutState",
    "SelfCheck",
    "Source",
    "SourceCount",
    "Split",
    "SplitInfo",
    "Trace",
    "TraceStatus",
    "TraceText",
    "TrainingRun",
    "Verdict",
    "Waiver",
]
