"""A small DNS client over UDP, for the resolver that `[net] dns` names: A and AAAA, nothing else.

The system's resolver does the work by default; this one exists so that an operator (or a test)
can point every outbound name at a server of their own without touching the machine.
"""

import asyncio
import ipaddress
import secrets
import struct
from functools import partial

TYPE_A = 1
TYPE_AAAA = 28
_CLASS_IN = 1
_RESPONSE = 0x8000
_RECURSE = 0x0100
_NXDOMAIN = 3
_HEADER = struct.Struct("!6H")
_MAX_ANSWERS = 64
_ATTEMPTS = 2

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class LookupFailed(OSError):
    """The resolver does not know the name, or does not answer."""


async def lookup(server: tuple[str, int], name: str, timeout: float = 2.0) -> list[IPAddress]:
    """Every address of the name, IPv4 first; `timeout` in seconds for each of two attempts."""
    asked = [_ask(server, name, kind, timeout) for kind in (TYPE_A, TYPE_AAAA)]
    found: list[IPAddress] = []
    failed: BaseException = LookupFailed(f"no address for {name}")
    # One family is enough: some resolvers refuse to answer for the other.
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, BaseException):
            failed = answer
        else:
            found += answer
    if not found:
        raise failed
    return found


async def _ask(server: tuple[str, int], name: str, kind: int, timeout: float) -> list[IPAddress]:
    loop = asyncio.get_running_loop()
    for _ in range(_ATTEMPTS):
        query = Query(name, kind)
        answer: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            partial(_Exchange, query, answer), remote_addr=server
        )
        transport.sendto(query.packet)
        try:
            packet = await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            continue
        finally:
            transport.close()
        return query.read(packet)
    raise LookupFailed(f"the resolver does not answer for {name}")


class _Exchange(asyncio.DatagramProtocol):
    """One question, one answer; datagrams that answer another question are ignored."""

    def __init__(self, query: "Query", answer: asyncio.Future[bytes]) -> None:
        self._query = query
        self._answer = answer

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        if self._query.answered_by(data) and not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(LookupFailed(f"the resolver is unreachable: {exc}"))


class Query:
    """One question on the wire. The random id and the echoed question tie the answer to it."""

    def __init__(self, name: str, kind: int) -> None:
        self.kind = kind
        self.id = secrets.randbits(16)
        self._question = _encode(name) + struct.pack("!2H", kind, _CLASS_IN)
        self.packet = _HEADER.pack(self.id, _RECURSE, 1, 0, 0, 0) + self._question

    def answered_by(self, packet: bytes) -> bool:
        """Whether the packet is an answer to this very question."""
        if len(packet) < _HEADER.size + len(self._question):
            return False
        number, flags, questions, *_ = _HEADER.unpack_from(packet)
        echoed = packet[_HEADER.size : _HEADER.size + len(self._question)]
        return (
            number == self.id
            and bool(flags & _RESPONSE)
            and questions == 1
            and echoed.lower() == self._question.lower()
        )

    def read(self, packet: bytes) -> list[IPAddress]:
        """The addresses in an answer; an unknown name has none. Raises LookupFailed."""
        _, flags, _, count, _, _ = _HEADER.unpack_from(packet)
        code = flags & 0xF
        if code == _NXDOMAIN:
            return []
        if code:
            raise LookupFailed(f"the resolver answered with code {code}")
        try:
            return self._records(packet, min(count, _MAX_ANSWERS))
        except (struct.error, IndexError, ValueError) as error:
            raise LookupFailed("the resolver's answer is not readable") from error

    def _records(self, packet: bytes, count: int) -> list[IPAddress]:
        # A recursive resolver puts the end of a CNAME chain into the same answer section.
        found: list[IPAddress] = []
        at = _HEADER.size + len(self._question)
        for _ in range(count):
            at = _skip_name(packet, at)
            kind, _, _, size = struct.unpack_from("!2HIH", packet, at)
            at += 10
            data = packet[at : at + size]
            at += size
            if kind == self.kind:
                found.append(ipaddress.ip_address(data))
        return found


def _encode(name: str) -> bytes:
    try:
        labels = name.rstrip(".").encode("idna").split(b".")
    except UnicodeError as error:
        raise LookupFailed("the name is not a host name") from error
    if any(not label or len(label) > 63 for label in labels):
        raise LookupFailed("the name is not a host name")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _skip_name(packet: bytes, at: int) -> int:
    while size := packet[at]:
        if size & 0xC0 == 0xC0:  # a pointer into the packet ends the name
            return at + 2
        at += 1 + size
    return at + 1
