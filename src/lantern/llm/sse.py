"""Server-sent events, read incrementally: bytes in, the data of each finished event out."""

MAX_EVENT_BYTES = 4_000_000


class Oversized(ValueError):
    """An event without end."""


class Parser:
    """Feed it whatever a read of the socket brought; it keeps the unfinished rest.

    Only `data` matters to both model protocols; event names, ids and comments are skipped.
    """

    __slots__ = ("_rest", "_skip_lf")

    def __init__(self) -> None:
        self._rest = b""
        self._skip_lf = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that these bytes finish. Raises Oversized."""
        if self._skip_lf or b"\r" in data:
            data = self._plain_newlines(data)
        parts = (self._rest + data if self._rest else data).split(b"\n\n")
        self._rest = parts.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise Oversized
        events = []
        for part in parts:
            # Nearly every event is this one line; the rest goes the long way round.
            if part.startswith(b"data: ") and b"\n" not in part:
                events.append(part[6:])
            elif (event := _data(part)) is not None:
                events.append(event)
        return events

    def _plain_newlines(self, data: bytes) -> bytes:
        # A CR is a line end at once: waiting for its LF would hold the last event back.
        if self._skip_lf and data.startswith(b"\n"):
            data = data[1:]
            self._skip_lf = False
            if not data:
                return data
        if data:
            self._skip_lf = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data(event: bytes) -> bytes | None:
    lines = []
    for line in event.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
