"""The events of one run in the process that works on it: shown at once, kept until durable."""

import asyncio

from lantern.core import clock, events
from lantern.core.events import Item

Chunk = tuple[int, int, str]  # seq_from, seq_to, data


class Live:
    """Append-only events of one attempt. `frames[i]` is the event with seq `base + i + 1`.

    Rows are kept until a step's commit made them durable: after a crash of the database they are
    written again with the same bounds.
    """

    def __init__(self, run_id: str, tenant: int, agent: str | None, attempt: int) -> None:
        self.run_id = run_id
        self.tenant = tenant
        self.agent = agent
        self.attempt = attempt
        self.base = (attempt - 1) * events.ATTEMPT
        self.frames: list[bytes] = []
        self.final = False  # the last event is out
        self.lost = False  # another node goes on: readers must look at the database
        self.rows: list[Chunk] = []  # not known to be durable
        self.sent = 0  # how many of `rows` the database has
        self.pending: list[Item] = []  # not in a row yet
        self.pending_bytes = 0
        self.committing = False  # a commit carries `pending`: no row may take them meanwhile
        self.ended_at = 0.0
        self.age = 0  # how many commits; rows of an earlier age are durable
        self._waiters: list[asyncio.Future[bool]] = []

    @property
    def last_seq(self) -> int:
        """Seq of the newest event."""
        return self.base + len(self.frames)

    def tokens(self, deltas: list[str]) -> None:
        """Show deltas at once; they become rows soon."""
        at = clock.epoch_ms()
        seq = self.base + len(self.frames)
        for text in deltas:
            seq += 1
            item: Item = [at, text]
            self.pending.append(item)
            self.frames.append(events.frame(self.run_id, seq, item))
            self.pending_bytes += len(text) + 24
        self.wake()

    def close_row(self) -> None:
        """Close the pending tokens into a row, ready to be written."""
        if not self.pending or self.committing:
            return
        last = self.last_seq
        row = (last - len(self.pending) + 1, last, events.pack(self.pending))
        self.pending, self.pending_bytes = [], 0
        self.rows.append(row)

    def draft(self, items: list[Item]) -> Chunk:
        """The row of pending tokens and these durable events, which are not shown yet.

        Hold `committing` from here until `publish`.
        """
        last = self.last_seq
        return (
            last - len(self.pending) + 1,
            last + len(items),
            events.pack([*self.pending, *items]),
        )

    def publish(self, items: list[Item]) -> None:
        """Show events whose commit made them, and all before them, durable."""
        seq = self.last_seq
        for item in items:
            seq += 1
            self.frames.append(events.frame(self.run_id, seq, item))
            self.final = self.final or events.is_final(item)
        self.rows, self.sent, self.pending, self.pending_bytes = [], 0, [], 0
        self.age += 1
        if self.final:
            self.ended_at = clock.monotonic()
        self.wake()

    def lose(self) -> None:
        """This node no longer owns the run."""
        self.lost = True
        self.ended_at = clock.monotonic()
        self.wake()

    def after(self, seq: int) -> list[bytes]:
        """Frames behind a seq of this attempt."""
        return self.frames[max(0, seq - self.base) :]

    def wait(self) -> asyncio.Future[bool]:
        """True at the next change."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def wake(self) -> None:
        """Tell every reader."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(True)
