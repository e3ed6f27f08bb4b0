"""The error tree.

LanternError                    catch this one to catch them all
 +- NoAPIKey                    none was given, or it cannot be a key
 +- ConnectionFailed            no answer: refused, cut off, timed out
 +- StreamInterrupted           the stream broke and could not be taken up again (last_seq)
 +- UnexpectedAnswer            an answer came, but it is not one of Lantern's
 +- RunFailed                   the run that was waited for failed (code, step)
 +- RunCancelled                the run that was waited for was cancelled
 +- LanternAPIError             the server said no (status, code, message, request_id, details)
     +- BadRequest          400
     +- Unauthorized        401
     +- InsufficientCredits 402 (credits_required, credits_remaining)
     +- Forbidden           403
     +- NotFound            404
     +- Conflict            409
     +- TooLarge            413
     +- RateLimited         429 (retry_after)
     +- ServerError         5xx
         +- UpstreamError   502, 504
"""

from dataclasses import dataclass
from typing import Any

from ._rate_limit import RateLimit


class LanternError(Exception):
    """Base of everything that this library raises on purpose."""


class NoAPIKey(LanternError):
    """Pass `api_key=` or set LANTERN_API_KEY."""


class ConnectionFailed(LanternError):
    """The server gave no answer; whether it acted on the request is not known."""


class UnexpectedAnswer(LanternError):
    """The answer is not one of Lantern's: most often `base_url` leads somewhere else."""


class StreamInterrupted(LanternError):
    """The event stream ended before the run did; `runs.stream(run_id, after=last_seq)` goes on."""

    def __init__(self, run_id: str, last_seq: int) -> None:
        super().__init__(run_id, last_seq)
        self.run_id = run_id
        self.last_seq = last_seq

    def __str__(self) -> str:
        return f"the stream of {self.run_id} broke after event {self.last_seq}"


class RunFailed(LanternError):
    """The run ended as `failed`; `code` and `step` as its `error` has them."""

    def __init__(
        self, run_id: str, message: str, code: str | None = None, step: str | None = None
    ) -> None:
        super().__init__(run_id, message, code, step)
        self.run_id = run_id
        self.message = message
        self.code = code
        self.step = step

    def __str__(self) -> str:
        return f"{self.run_id} failed: {self.message}"


class RunCancelled(LanternError):
    """The run ended as `cancelled`."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return f"{self.run_id} was cancelled"


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error answer says, whichever of the two bodies it came in."""

    status: int
    code: str
    message: str
    request_id: str | None = None
    details: Any = None
    retry_after: float | None = None
    credits_required: float | None = None
    credits_remaining: float | None = None
    rate_limit: RateLimit | None = None


class LanternAPIError(LanternError):
    """The server answered with an error status."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
        self.status = problem.status
        self.code = problem.code
        self.message = problem.message
        self.request_id = problem.request_id
        self.details = problem.details
        self.rate_limit = problem.rate_limit

    def __str__(self) -> str:
        request = f", {self.request_id}" if self.request_id else ""
        return f"{self.message} ({self.status} {self.code}{request})"


class BadRequest(LanternAPIError):
    """The request is wrong; `details` may list the fields."""


class Unauthorized(LanternAPIError):
    """The key is missing, unknown, revoked or expired."""


class InsufficientCredits(LanternAPIError):
    """The balance, or a limit on it, does not cover the call."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.credits_required = problem.credits_required
        self.credits_remaining = problem.credits_remaining


class Forbidden(LanternAPIError):
    """The key is good but does not reach this."""


class NotFound(LanternAPIError):
    """No such object, or none that this key may see."""


class Conflict(LanternAPIError):
    """The state of the object refuses the call."""


class TooLarge(LanternAPIError):
    """The body is over the server's limit."""


class RateLimited(LanternAPIError):
    """Too many requests; the next is welcome in `retry_after` seconds."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.retry_after = problem.retry_after


class ServerError(LanternAPIError):
    """The server's own fault, or it is not ready; its log has the story under the request id."""


class UpstreamError(ServerError):
    """A service behind the server failed or did not answer in time."""


_BY_STATUS: dict[int, type[LanternAPIError]] = {
    400: BadRequest,
    401: Unauthorized,
    402: InsufficientCredits,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: RateLimited,
    502: UpstreamError,
    504: UpstreamError,
}


def api_error(problem: Problem) -> LanternAPIError:
    """The error of the tree that fits the status."""
    other = ServerError if problem.status >= 500 else LanternAPIError
    return _BY_STATUS.get(problem.status, other)(problem)
