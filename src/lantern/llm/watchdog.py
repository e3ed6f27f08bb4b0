"""One timer for a whole call."""

import asyncio
from collections.abc import Callable


class Watchdog:
    """Acts on silence. Seeing life is an assignment; the timer looks when it is due.

    Only time spent waiting for the model counts: a slow consumer is no silence.
    """

    __slots__ = ("_act", "_handle", "_idle", "_loop", "_seen", "expired", "waiting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        first: float,
        idle: float,
        act: Callable[[], None],
    ) -> None:
        """`first`: the loop's time of the first deadline; `idle`: seconds of silence after it."""
        self._loop = loop
        self._idle = idle
        self._act = act
        self._seen: float | None = None
        self.waiting = False
        self.expired = False
        self._handle = loop.call_at(first, self._look)

    def alive(self) -> None:
        """The model showed life now; from the first time on the idle timeout counts."""
        if self._seen is None:
            self.within(self._idle)
        else:
            self._seen = self._loop.time()

    def within(self, seconds: float) -> None:
        """Expect the next sign of life within this time from now."""
        self._idle = seconds
        self._seen = self._loop.time()
        self._handle.cancel()
        self._handle = self._loop.call_later(seconds, self._look)

    def stop(self) -> None:
        """Watch no more."""
        self._handle.cancel()

    def _look(self) -> None:
        if not self.waiting:
            self.within(self._idle)
        elif self._seen is not None and self._seen + self._idle > self._loop.time():
            self._handle = self._loop.call_at(self._seen + self._idle, self._look)
        else:
            self.expired = True
            self._act()
