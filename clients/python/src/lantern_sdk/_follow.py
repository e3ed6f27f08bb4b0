"""What a reader of one run's events knows: how far it came, when to come back, when to give up.

    connect -> opened -> feed, feed, ... -> final event: finished
       ^                        |
       +--- wait <--- closed or dropped (Last-Event-ID: the last event that was handed out)

Decides; does not read, does not wait. The two clients drive it.
"""

import time
from collections.abc import Callable, Iterator

import httpx

from . import _calls, _events
from ._calls import Call
from ._errors import (
    ConnectionFailed,
    RunCancelled,
    RunFailed,
    StreamInterrupted,
    UnexpectedAnswer,
)
from ._events import Event
from ._models import Run, RunError
from ._retries import Attempts
from ._sse import Decoder, Message
from ._transcript import Transcript

# A connection that still brings bytes after this many seconds was a good one, events or not:
# a run may wait hours for a person while a proxy cuts its stream every minute.
_GOOD_CONNECTION = 10.0


class Follower:
    """One reader of one run, over as many connections as it takes."""

    def __init__(
        self,
        run_id: str,
        *,
        after: int | None = None,
        max_resumes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run_id = run_id
        self.last_seq = after or 0
        self.finished = False
        self.in_doubt = False
        self.transcript = Transcript()
        self._attempts = Attempts(allowed=max_resumes)
        self._clock = clock
        self._decoder = Decoder()
        self._opened_at = 0.0
        self._silent = True
        self._failure: RunFailed | RunCancelled | None = None

    def call(self) -> Call[None]:
        """The request that goes on where this reader stands."""
        return _calls.stream_run(self.run_id, self.last_seq)

    def opened(self, response: httpx.Response) -> float | None:
        """None when events follow, else seconds to wait before the next attempt; LanternAPIError."""
        pause = self._attempts.answered(response)
        kind = response.headers.get("content-type", "")
        if pause is None and not kind.startswith("text/event-stream"):
            raise UnexpectedAnswer(f"the stream of {self.run_id} is not a stream of events")
        self._decoder = Decoder()
        self._opened_at = self._clock()
        self._silent = True
        return pause

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that `chunk` completes; those that were handed out before are dropped."""
        if self._clock() - self._opened_at >= _GOOD_CONNECTION:
            self._attempts.reset()
        for message in self._decoder.feed(chunk):
            event = self._parse(message)
            if self.finished or (event.seq is not None and event.seq <= self.last_seq):
                continue
            self._take(event)
            yield event

    def closed(self) -> float:
        """The server ended the stream before the run did: seconds until the next attempt."""
        # Nothing new and a proper end: perhaps all was told before. The run's status knows.
        self.in_doubt = self._silent
        pause = self._attempts.ended()
        if pause is None:
            raise StreamInterrupted(self.run_id, self.last_seq)
        return pause

    def dropped(self, problem: httpx.RequestError) -> float:
        """The connection broke, or none was made: seconds until the next attempt."""
        self.in_doubt = False
        try:
            return self._attempts.failed(problem, f"the stream of {self.run_id}")
        except ConnectionFailed as failure:
            raise StreamInterrupted(self.run_id, self.last_seq) from failure

    def learn(self, run: Run) -> None:
        """Settle the doubt: a run that is final has no more to tell."""
        self.in_doubt = False
        if run.finished:
            self._finish(run.status, run.error)

    def answer(self) -> str:
        """The text of the finished run. RunFailed, RunCancelled; StreamInterrupted if not read."""
        if not self.finished:
            raise StreamInterrupted(self.run_id, self.last_seq)
        if self._failure is not None:
            raise self._failure
        return self.transcript.text

    def _parse(self, message: Message) -> Event:
        try:
            return _events.parse(message.data, message.id)
        except ValueError as problem:
            raise UnexpectedAnswer(f"an event of {self.run_id} is not JSON: {problem}") from problem

    def _take(self, event: Event) -> None:
        self._silent = False
        self._attempts.reset()
        self.last_seq = self.last_seq if event.seq is None else event.seq
        self.transcript.add(event)
        if event.final:
            self._finish(event.type.removeprefix("run."), getattr(event, "error", None))

    def _finish(self, status: str, error: object) -> None:
        self.finished = True
        if status == "cancelled":
            self._failure = RunCancelled(self.run_id)
        elif status == "failed":
            why = error if isinstance(error, RunError) else RunError(message=str(error or ""))
            self._failure = RunFailed(self.run_id, why.message, why.code, why.step)
