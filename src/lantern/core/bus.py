"""Events between the run that makes them and everyone who reads: in process at once, in rows each
20 ms, by LISTEN/NOTIFY to other nodes. A lost notification costs a second, never an event.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from lantern.core import clock, events, log
from lantern.core.db import Database, DatabaseError, Row, Tx
from lantern.core.errors import Unavailable
from lantern.core.live import Chunk, Live
from lantern.settings import RunSettings

_log = log.get(__name__)

CHANNEL = "lantern"
LINGER_SECONDS = 5.0  # a reader often comes just after the end of a short run
READER_SECONDS = 5.0
PAGE = 200  # rows a reader of another node's run is given at a time
TROUBLE = (DatabaseError, Unavailable, OSError)  # the database, or the way to it


class Remote:
    """One reader of a run that lives on another node, or nowhere any more."""

    def __init__(self, run_id: str, seen: int) -> None:
        self.run_id = run_id
        self.seen = seen
        self.frames: list[bytes] = []
        self.final = False
        self.read = asyncio.Event()

    def take(self, seq_from: int, data: str) -> bool:
        """Accept a row that continues what was seen, or begins a later attempt."""
        items = events.unpack(data)
        fresh_attempt = seq_from % events.ATTEMPT == 1 and seq_from > self.seen
        if seq_from > self.seen + 1 and not fresh_attempt:
            return False  # a row before this one is still on its way
        for seq, item in enumerate(items, seq_from):
            if seq > self.seen:
                self.frames.append(events.frame(self.run_id, seq, item))
                self.seen = seq
                self.final = self.final or events.is_final(item)
        return True


class Bus:
    """All live runs of this process and all its readers."""

    def __init__(self, db: Database, settings: RunSettings) -> None:
        self.db = db
        self.settings = settings
        self.live: dict[str, Live] = {}
        self.node = ""
        self.others = False  # set by the node loop while there are other nodes
        self._readers_until = 0.0  # a command reads along without being a node
        self.on_notice: dict[str, Callable[[str], None]] = {}
        self._remotes: set[Remote] = set()
        self._dirty = asyncio.Event()  # there are tokens without a row
        self._full = asyncio.Event()  # so many that they shall not wait
        self._poked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._epoch = db.epoch
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Start the flusher, the listener and the reader of other nodes' events."""
        for work in (self._flusher, self._listener, self._reader, self._ticker):
            self._tasks.append(asyncio.create_task(work(), name=f"bus.{work.__name__}"))

    async def close(self) -> None:
        """Write what is pending and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(*TROUBLE):
            await self.flush()

    @property
    def tell_others(self) -> bool:
        """Whether anybody outside this process listens."""
        return self.others or clock.monotonic() < self._readers_until

    # ---------------------------------------------------------------- writing
    def begin(self, run_id: str, tenant: int, agent: str | None, attempt: int) -> Live:
        """Events of a run that this process works on from now."""
        live = self.live[run_id] = Live(run_id, tenant, agent, attempt)
        return live

    def tokens(self, live: Live, deltas: list[str]) -> None:
        """Show deltas now, write them within `flush_ms`."""
        live.tokens(deltas)
        self._dirty.set()
        if live.pending_bytes >= self.settings.flush_bytes:
            self._full.set()

    async def flush(self) -> None:
        """Write all pending tokens of all runs in one statement."""
        async with self._writing:
            again = True
            while again:
                if self._epoch != self.db.epoch:
                    self._write_again()
                for live in self.live.values():
                    live.close_row()
                lives = [x for x in self.live.values() if x.sent < len(x.rows)]
                if lives:
                    await self._write([(x, x.age, x.rows[x.sent :]) for x in lives])
                again = self._epoch != self.db.epoch  # a new server was met on the way

    async def settle(self, live: Live) -> None:
        """Return when every closed row of this run is written; a step's commit comes after them."""
        if live.rows and (live.sent < len(live.rows) or self._epoch != self.db.epoch):
            await self.flush()

    async def _write(self, todo: list[tuple[Live, int, list[Chunk]]]) -> None:
        flat = [(live.run_id, live.attempt, *row) for live, _, rows in todo for row in rows]
        epoch = self.db.epoch
        owned = await self.db.all(
            "select append_events(%s, %s, %s, %s, %s, %s, %s) as id",
            (self.node, *(list(column) for column in zip(*flat, strict=True)), self.tell_others),
        )
        ours = {row["id"] for row in owned}
        if epoch != self.db.epoch:
            return  # what was written before may be gone: all of it goes again
        for live, age, rows in todo:
            if live.age != age:
                continue  # a commit made these rows durable while they were on their way
            live.sent += len(rows)
            if live.run_id not in ours or live.lost:
                live.rows, live.sent = [], 0  # another node, or another attempt, goes on

    def _write_again(self) -> None:
        # The server restarted: rows written without waiting for the disk may be gone.
        self._epoch = self.db.epoch
        for live in self.live.values():
            live.sent = 0

    async def _flusher(self) -> None:
        while True:
            await self._dirty.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.flush_ms / 1000):
                    await self._full.wait()
            self._dirty.clear()
            self._full.clear()
            try:
                await self.flush()
            except TROUBLE as error:
                _log.warning("bus.flush_failed", error=type(error).__name__)
                await asyncio.sleep(0.2)
                self._dirty.set()

    # ---------------------------------------------------------------- reading
    async def announce_reader(self) -> None:
        """Ask all nodes for notices, for READER_SECONDS: this process reads and is no node."""
        await self.db.run("select pg_notify(%s, 'reader:')", (CHANNEL,))

    async def follow(self, run_id: str, after: int) -> AsyncIterator[bytes]:
        """Frames behind `after`, then live ones, then the end. Heartbeats when it is silent."""
        seen = after
        while True:
            live = self.live.get(run_id)
            source = (
                self._follow_live(live, seen)
                if live and not live.lost and seen >= live.base
                else self._follow_rows(run_id, seen)
            )
            async for seq, data, final in source:
                seen = max(seen, seq)
                yield data
                if final:
                    return

    async def _follow_live(self, live: Live, seen: int) -> AsyncIterator[tuple[int, bytes, bool]]:
        loop = asyncio.get_running_loop()
        silence = self.settings.heartbeat_seconds
        while True:
            if frames := live.after(seen):
                seen += len(frames)
                yield seen, b"".join(frames), live.final and seen == live.last_seq
            elif live.final:
                yield seen, b"", True  # the reader had everything already
            elif live.lost:
                return
            else:
                waiter = live.wait()
                beat = loop.call_later(silence, _silent, waiter)
                spoke = await waiter
                beat.cancel()
                if not spoke:
                    yield seen, events.HEARTBEAT, False

    async def _follow_rows(self, run_id: str, seen: int) -> AsyncIterator[tuple[int, bytes, bool]]:
        remote = Remote(run_id, seen)
        self._remotes.add(remote)
        self._poke()
        spoke = clock.monotonic()
        try:
            while True:
                await remote.read.wait()  # each notice, and each second
                remote.read.clear()
                frames, remote.frames = remote.frames, []
                if frames or remote.final:
                    spoke = clock.monotonic()
                    self._poke()  # there may be another page
                    yield remote.seen, b"".join(frames), remote.final
                live = self.live.get(run_id)
                if live and not live.lost and (remote.seen >= live.base or not frames):
                    # This process works on the run; what earlier attempts wrote has been read.
                    yield max(remote.seen, live.base), b"", False
                    return
                if clock.monotonic() - spoke >= self.settings.heartbeat_seconds:
                    spoke = clock.monotonic()
                    yield remote.seen, events.HEARTBEAT, False
        finally:
            self._remotes.discard(remote)

    def _poke(self) -> None:
        self._poked.set()

    async def _reader(self) -> None:
        """One query for all readers of remote runs, however many notices came."""
        while True:
            await self._poked.wait()
            self._poked.clear()
            remotes = list(self._remotes)
            if not remotes:
                continue
            try:
                await self._read(remotes)
            except TROUBLE as error:
                _log.warning("bus.read_failed", error=type(error).__name__)
                await asyncio.sleep(0.2)

    async def _read(self, remotes: list[Remote]) -> None:
        wanted = [(r.run_id, r.seen) for r in remotes]
        rows = await stored(self.db, wanted, PAGE)
        by_run: dict[str, list[tuple[int, int, str]]] = {}
        for row in rows:
            by_run.setdefault(row["run_id"], []).append(
                (row["seq_from"], row["seq_to"], row["data"])
            )
        for remote in remotes:
            for seq_from, seq_to, data in sorted(set(by_run.get(remote.run_id, []))):
                if seq_to > remote.seen and not remote.take(seq_from, data):
                    break
            remote.read.set()

    async def _listener(self) -> None:
        while True:
            try:
                async for payload in self.db.listen(CHANNEL, self._poke):
                    self._notice(payload)
            except TROUBLE as error:
                _log.warning("bus.listen_failed", error=type(error).__name__)
            await asyncio.sleep(0.5)

    def _notice(self, payload: str) -> None:
        kind, _, rest = payload.partition(":")
        if kind == "events":
            if self._remotes and any(r.run_id == rest.partition(":")[0] for r in self._remotes):
                self._poke()
        elif kind == "reader":
            self._readers_until = clock.monotonic() + READER_SECONDS
        elif handler := self.on_notice.get(kind):
            handler(rest)

    async def _ticker(self) -> None:
        """Each second: look for rows whose notice was lost, forget runs that ended."""
        while True:
            await asyncio.sleep(1.0)
            if self._remotes:
                self._poke()
            horizon = clock.monotonic() - LINGER_SECONDS
            for live in list(self.live.values()):
                kept = not live.rows or (live.lost and live.sent == len(live.rows))
                if kept and live.ended_at and live.ended_at < horizon:
                    del self.live[live.run_id]


async def stored(source: Database | Tx, wanted: list[tuple[str, int]], limit: int) -> list[Row]:
    """Up to `limit` rows of events for each (run id, seq) behind that seq. Sees every tenant."""
    runs, seqs = [run for run, _ in wanted], [seq for _, seq in wanted]
    return await source.all("select * from events_after(%s, %s, %s)", (runs, seqs, limit))


def _silent(waiter: "asyncio.Future[bool]") -> None:
    if not waiter.done():
        waiter.set_result(False)
