"""Server-Sent Events, decoded: bytes in, in pieces of any size; messages out. No input, no output."""

from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the stream; `id` is None when the message carried none."""

    data: str
    id: str | None = None


class Decoder:
    """Feed it what the socket gave; it keeps what is not yet a whole line or a whole message.

    A message is only given out at its blank line, so a connection that breaks inside a message
    loses that message whole, and resuming by the last id brings it again.
    """

    def __init__(self) -> None:
        self._tail = b""
        self._after_cr = False
        self._first_line = True
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that `chunk` completes, in order."""
        if not chunk:
            return []
        if self._after_cr:  # a CR LF that was cut in two ends one line, not two
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        lines = (self._tail + chunk).splitlines(keepends=True)
        unfinished = bool(lines) and not lines[-1].endswith((b"\n", b"\r"))
        self._tail = lines.pop() if unfinished else b""
        found = (self._line(line.rstrip(b"\r\n")) for line in lines)
        return [message for message in found if message is not None]

    def _line(self, line: bytes) -> Message | None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")  # a comment has an empty name
        text = value.removeprefix(b" ").decode("utf-8", errors="replace")
        if name == b"data":
            self._data.append(text)
        elif name == b"id" and "\0" not in text:
            self._id = text
        return None

    def _dispatch(self) -> Message | None:
        data, id_ = self._data, self._id
        self._data, self._id = [], None
        return Message("\n".join(data), id_) if data else None
