"""When a request is sent again, and after how long. Decides; does not wait."""

import random

import httpx

from . import _problems
from ._errors import ConnectionFailed, api_error

_REPEATED = frozenset({429, 502, 503, 504})
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_PATIENCE = 60.0  # a Retry-After beyond this is for the caller to decide on
# What no repetition mends: a request that cannot be written, a scheme that nobody speaks.
_HOPELESS = (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.TooManyRedirects)


class Attempts:
    """The attempts at one request: `failed` and `answered` say how long to wait, or raise."""

    def __init__(self, *, allowed: int, repeatable: bool = True) -> None:
        self._allowed = allowed if repeatable else 0
        self._made = 0

    def reset(self) -> None:
        """Begin to count anew: the last attempt got somewhere."""
        self._made = 0

    def failed(self, problem: httpx.RequestError, what: str) -> float:
        """No answer came: seconds until the next attempt. ConnectionFailed when none is left."""
        if self._made >= self._allowed or isinstance(problem, _HOPELESS):
            reason = str(problem) or type(problem).__name__
            raise ConnectionFailed(f"{what}: {reason}") from problem
        return self._pause()

    def answered(self, response: httpx.Response) -> float | None:
        """None for a good answer, else seconds until the next attempt; raises LanternAPIError.

        The body of an answer that is not a success must have been read.
        """
        if response.is_success:
            return None
        problem = _problems.read(response)
        asked = problem.retry_after
        spent = self._made >= self._allowed or problem.status not in _REPEATED
        if spent or (asked or 0) > _PATIENCE:
            raise api_error(problem)
        return self._pause() if asked is None else self._asked(asked)

    def ended(self) -> float | None:
        """The stream ended too early: seconds until the next attempt, None when none is left."""
        return None if self._made >= self._allowed else self._pause()

    def _asked(self, seconds: float) -> float:
        self._made += 1
        return seconds

    def _pause(self) -> float:
        pause: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._made, 16))
        self._made += 1
        # Spread, so that a thousand clients of a restarted server do not come back as one.
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret hangs on it
