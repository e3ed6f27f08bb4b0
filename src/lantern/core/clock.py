"""The one place that knows what time it is: UTC inside, ISO-8601 with `Z` at the edge."""

import time
from datetime import UTC, datetime, timedelta


def now() -> datetime:
    """The present moment, aware, UTC."""
    return datetime.now(UTC)


def epoch_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def monotonic() -> float:
    """Seconds that never run backwards; for durations alone."""
    return time.monotonic()


def iso(moment: datetime) -> str:
    """`2026-04-12T10:00:00.123Z`; whole seconds carry no fraction."""
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return text.removesuffix(".000") + "Z"


def parse(text: str) -> datetime:
    """The moment that `iso` has written."""
    return datetime.fromisoformat(text)


def iso_ms(epoch: int) -> str:
    """`iso` of milliseconds since 1970, always with a fraction; made for the event stream."""
    seconds, ms = divmod(epoch, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


_cached: tuple[int, str] = (0, "")


def _second(seconds: int) -> str:
    # Thousands of tokens share a second: format it once.
    global _cached
    if _cached[0] != seconds:
        moment = datetime.fromtimestamp(seconds, UTC)
        _cached = (seconds, moment.strftime("%Y-%m-%dT%H:%M:%S"))
    return _cached[1]


def from_micros(epoch: int) -> datetime:
    """The moment that many microseconds after 1970, exactly."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=epoch)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
