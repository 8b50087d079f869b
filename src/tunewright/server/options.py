"""What the gateway's HTTP side can be told; nothing here says what is served."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Limits and times of the HTTP side."""

    max_in_flight: int = 256
    """Completions answered at once; one more is refused with 429."""
    has_open_metrics: bool = False
    """Whether /metrics is given without a key."""
    header_timeout_s: float = 15.0
    """A connection that has not sent a whole first request head by then is closed with 408."""
    body_timeout_s: float = 30.0
    """For a whole body, from its head on."""
    write_timeout_s: float = 60.0
    """A client that takes no byte of a stream for so long is hung up on."""
    engine_silence_s: float = 600.0
    """For the engine's next byte; a dead engine closes the connection at once."""
    retry_pauses_s: tuple[float, ...] = (0.05, 0.5)
    """Before the second attempt, the third, ...; their number bounds the attempts."""
    retry_budget_s: float = 60.0
    """No new attempt begins when a request is older than this."""
