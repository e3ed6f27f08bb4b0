"""The `X-RateLimit-*` headers, which every answer of the server carries."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The bucket that the request was counted in."""

    limit: int
    """Requests a minute."""
    remaining: int
    """Requests that may be sent at once, now."""
    reset: int
    """The second, since 1970, at which the bucket is full again."""

    @property
    def reset_at(self) -> datetime:
        """`reset` as a moment, UTC."""
        return datetime.fromtimestamp(self.reset, UTC)

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> "RateLimit | None":
        """From an answer's headers; None when they are missing or not numbers."""
        names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
        try:
            return cls(*(int(headers[name]) for name in names))
        except (KeyError, ValueError):
            return None
