"""The error tree. An error is a fact: it carries its status and code; the route decides the body.

LanternError
 +- BadRequest 400          +- MethodNotAllowed 405    +- Internal 500
 +- Unauthorized 401        +- Conflict 409            +- Upstream 502
 +- OutOfCredits 402        +- TooLarge 413            +- Unavailable 503
 +- Forbidden 403           +- RateLimited 429         +- UpstreamTimeout 504
 +- NotFound 404
"""

from decimal import Decimal
from typing import Any, ClassVar


class LanternError(Exception):
    """Base of every error that a caller may see. `details` is JSON; never a secret, never PII."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    keeps = False  # what the request has written stays: a miss that is charged

    def __init__(
        self, message: str, *, details: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.headers = headers or {}


class BadRequest(LanternError):
    """The request is wrong; `details` lists `{loc, msg, type}` for each field."""

    status = 400
    code = "bad_request"

    @classmethod
    def field(cls, name: str, message: str, where: str = "body") -> "BadRequest":
        """One wrong field, named; `where`: body, query or path."""
        detail = {"loc": [where, name], "msg": message, "type": "value_error"}
        return cls(f"{name}: {message}", details=[detail])


class Unauthorized(LanternError):
    """The key is missing, unknown, revoked or expired."""

    status = 401
    code = "unauthorized"


class OutOfCredits(LanternError):
    """The balance, or a limit on it, does not cover the call."""

    status = 402
    code = "insufficient_credits"

    def __init__(
        self,
        required: Decimal,
        remaining: Decimal,
        reason: str,
        message: str = "Not enough credits for this request",
    ) -> None:
        super().__init__(message, details={"reason": reason})
        self.required = required
        self.remaining = remaining


class Forbidden(LanternError):
    """The key is good but does not reach this."""

    status = 403
    code = "forbidden"


class NotFound(LanternError):
    """No such object, or none that this key may see."""

    status = 404
    code = "not_found"


class MethodNotAllowed(LanternError):
    """The path exists, with other methods."""

    status = 405
    code = "method_not_allowed"


class Conflict(LanternError):
    """The state of the object refuses the call."""

    status = 409
    code = "conflict"


class TooLarge(LanternError):
    """The body is over the limit."""

    status = 413
    code = "too_large"


class RateLimited(LanternError):
    """The bucket is empty; `retry_after` in whole seconds."""

    status = 429
    code = "rate_limited"

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            f"Too many requests; try again in {retry_after} s",
            headers={"Retry-After": str(retry_after)},
        )
        self.retry_after = retry_after


class Internal(LanternError):
    """Our fault; the log has the story under the request id."""


class Upstream(LanternError):
    """A service behind us answered with an error."""

    status = 502
    code = "upstream_error"


class Unavailable(LanternError):
    """Not now: the database or this node is not ready."""

    status = 503
    code = "unavailable"


class UpstreamTimeout(LanternError):
    """A service behind us did not answer in time."""

    status = 504
    code = "upstream_timeout"
