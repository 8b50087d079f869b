"""What all endpoints of one gateway share."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from tunewright.errors import RequestRefused
from tunewright.server.metrics import Meters
from tunewright.server.options import GatewayOptions
from tunewright.server.seams import GatewayRuntime


class FrontDesk:
    """Runtime, limits and figures; confined to one event loop."""

    def __init__(self, runtime: GatewayRuntime, options: GatewayOptions) -> None:
        self.runtime = runtime
        self.options = options
        self.meters = Meters(runtime)
        self.started_at = int(time.time())
        """Seconds since 1970."""
        self.num_in_flight = 0
        self.is_stopping = False
        """Answers in the making may end; no new one begins."""

    @contextmanager
    def slot(self) -> Generator[None]:
        """Hold one of the places for requests. Raises RequestRefused: 429 none is free, 503 stopping."""
        if self.is_stopping:
            raise RequestRefused("the gateway is stopping; ask again", 503, "stopping")
        if self.num_in_flight >= self.options.max_in_flight:
            raise RequestRefused(
                f"{self.num_in_flight} requests are being answered, which is the limit; ask again later",
                429,
                "too_many_requests",
            )
        self.num_in_flight += 1
        try:
            yield
        finally:
            self.num_in_flight -= 1
