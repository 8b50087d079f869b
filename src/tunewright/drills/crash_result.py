"""What the crash drill shows. Pure."""

from dataclasses import dataclass

from tunewright.values import Json


@dataclass(frozen=True, slots=True)
class Resumed:
    """A training that was killed and went on, beside one that nobody disturbed."""

    same_bits: bool
    """Whether both candidates have one digest."""
    killed_at_step: int
    num_steps: int
    processes_killed: int
    started_again: bool
    """Whether the first step was trained twice: it began anew instead of going on."""
    candidate: str
    undisturbed: str


@dataclass(frozen=True, slots=True)
class Survived:
    """A record whose process died between blobs and commit, made again."""

    orphan_blobs: int
    """Blobs that lay there without a record after the kill."""
    no_half_record: bool
    """Whether the ledger knew no record after the kill."""
    same_digest: bool
    """Whether the record made then has the digest of the undisturbed one, splits included."""
    rows_in: int
    rows_lost: int
    """Rows read but neither kept nor removed for a reason, or missing beside the undisturbed record."""
    verified: bool
    """Whether ledger, records, blobs and signatures verify in the end."""

    @property
    def record_survives(self) -> bool:
        """Whether nothing was half-written and the record came out the same."""
        return self.no_half_record and self.same_digest and self.verified


@dataclass(frozen=True, slots=True)
class UnderLoad:
    """An engine that was killed while clients waited."""

    requests: int
    answered: int
    failed_requests: int
    client_retries: int
    in_flight: int
    """Requests that waited for the engine when it was killed."""
    engine_restarted: bool
    """Whether another engine process answers now."""
    longest_pause_s: float
    """Longest time between two answers."""
    interrupted: int
    """Attempts whose trace says that the engine died under them."""
    traces_lost: int
    """Answered requests without a closed trace."""


@dataclass(frozen=True, slots=True)
class CrashResult:
    """All three parts."""

    resumed: Resumed
    survived: Survived
    load: UnderLoad
    wall_s: float

    @property
    def is_shown(self) -> bool:
        """Whether nothing was lost and clients met retries at most."""
        return (
            self.resumed.same_bits
            and not self.resumed.started_again
            and self.survived.record_survives
            and self.survived.rows_lost == 0
            and self.load.engine_restarted
            and self.load.failed_requests == 0
            and self.load.traces_lost == 0
        )

    def to_json(self) -> dict[str, Json]:
        """Write the figures."""
        resumed, survived, load = self.resumed, self.survived, self.load
        return {
            "shown": self.is_shown,
            "same_bits": resumed.same_bits,
            "killed_at_step": resumed.killed_at_step,
            "steps": resumed.num_steps,
            "record_survives": survived.record_survives,
            "orphan_blobs": survived.orphan_blobs,
            "rows_lost": survived.rows_lost,
            "requests": load.requests,
            "in_flight_at_kill": load.in_flight,
            "client_retries": load.client_retries,
            "failed_requests": load.failed_requests,
            "interrupted_attempts": load.interrupted,
            "traces_lost": load.traces_lost,
            "longest_pause_s": round(load.longest_pause_s, 2),
            "seconds": round(self.wall_s, 1),
        }
