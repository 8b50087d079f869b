"""How much feedback is taken: so many on one trace, by one author a minute, of one tenant a second.

Token buckets in bounded memory, confined to one event loop. No clock is read here: time is given in seconds.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

MAX_BUCKETS = 100_000
"""Buckets of each kind kept at a time, about 20 MB; the one unused longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket's size and how fast it fills."""

    burst: float
    per_s: float
    """0: it never fills again."""


@dataclass(frozen=True, slots=True)
class FeedbackRates:
    """What is allowed."""

    trace: Rate = Rate(20, 0.0)
    """20 in all: whoever changes their mind more often is no rater."""
    author: Rate = Rate(30, 30 / 60)
    tenant: Rate = Rate(200, 100.0)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left, and when that was counted."""

    left: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether feedback is taken, and if not, why and until when."""

    is_allowed: bool
    limit: str | None = None
    """`trace`, `author` or `tenant`."""
    retry_after_s: float | None = None
    """Absent when waiting does not help."""


def refill(bucket: Bucket | None, rate: Rate, now_s: float) -> Bucket:
    """Let time pass over a bucket; a new one is full, and a clock that goes back adds nothing."""
    if bucket is None:
        return Bucket(rate.burst, now_s)
    passed_s = max(0.0, now_s - bucket.at_s)
    return Bucket(min(rate.burst, bucket.left + passed_s * rate.per_s), max(now_s, bucket.at_s))


def wait_s(bucket: Bucket, rate: Rate) -> float | None:
    """Seconds until one more is allowed; 0 now, None never."""
    if bucket.left >= 1:
        return 0.0
    return (1 - bucket.left) / rate.per_s if rate.per_s > 0 else None


_Buckets = OrderedDict[tuple[str, str], Bucket]


@dataclass(slots=True)
class FeedbackLimits:
    """The buckets of every trace, author and tenant seen lately."""

    rates: FeedbackRates = field(default_factory=FeedbackRates)
    max_buckets: int = MAX_BUCKETS
    _buckets: dict[str, _Buckets] = field(default_factory=dict[str, _Buckets])

    def take(self, *, trace: str, author: str, tenant: str, now_s: float) -> Allowance:
        """Take one from each bucket, or from none when one of them is empty.

        Args:
            trace: its id.
            author: keyed hash, or the name as given; only compared.
            tenant: of the caller's key.
            now_s: a monotonic clock's seconds.
        """
        asked = {
            "tenant": ((tenant, ""), self.rates.tenant),
            "author": ((tenant, author), self.rates.author),
            "trace": ((tenant, trace), self.rates.trace),
        }
        found = {kind: refill(self._of(kind).get(key), rate, now_s) for kind, (key, rate) in asked.items()}
        for kind, (_, rate) in asked.items():
            wait = wait_s(found[kind], rate)
            if wait != 0.0:
                return Allowance(False, kind, wait)
        for kind, (key, _) in asked.items():
            self._keep(kind, key, Bucket(found[kind].left - 1, found[kind].at_s))
        return Allowance(True)

    def num_buckets(self) -> int:
        """Count the buckets in memory."""
        return sum(len(buckets) for buckets in self._buckets.values())

    def _of(self, kind: str) -> _Buckets:
        return self._buckets.setdefault(kind, OrderedDict())

    def _keep(self, kind: str, key: tuple[str, str], bucket: Bucket) -> None:
        buckets = self._of(kind)
        buckets[key] = bucket
        buckets.move_to_end(key)
        if len(buckets) > self.max_buckets:
            buckets.popitem(last=False)
