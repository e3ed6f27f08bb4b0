"""The one place that decides which address may be reached, for every protocol.

Addresses of the operator's configuration are trusted. Addresses that users, agents or pages give
are resolved here and refused unless they are public, or listed in `[net] allow`. What is checked
is the address that will be connected to, so no spelling of it and no late DNS answer gets around.
"""

import asyncio
import ipaddress
import socket
from typing import NamedTuple

from lantern.core import dns
from lantern.core.dns import IPAddress
from lantern.core.errors import BadRequest
from lantern.settings import NetSettings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RESOLVE_SECONDS = 5.0

# What the registries call special-purpose; spelled out because `is_global` differs by Python release.
_REFUSED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
# Prefixes that carry an IPv4 address, and how many bits stand to its right.
_CARRIERS: tuple[tuple[Network, int], ...] = (
    (ipaddress.ip_network("::ffff:0:0/96"), 0),
    (ipaddress.ip_network("::ffff:0:0:0/96"), 0),
    (ipaddress.ip_network("64:ff9b::/96"), 0),
    (ipaddress.ip_network("2002::/16"), 80),
)


class Blocked(BadRequest):
    """The address may not be reached from here. Names the host, never what it resolved to."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"'{host}' is not a public address; an operator may list it in [net] allow"
        )


class Unresolved(BadRequest):
    """The name has no address."""

    def __init__(self, host: str) -> None:
        super().__init__(f"'{host}' cannot be resolved")


class Address(NamedTuple):
    """Where to connect. `mapped` tells that `[net.hosts]` named it: such a peer speaks clear text."""

    ip: str
    port: int
    mapped: bool = False


class Guard:
    """Turns a host and a port into the addresses that may be connected to."""

    def __init__(self, settings: NetSettings) -> None:
        self._allow = [_rule(entry) for entry in settings.allow]
        self._hosts = {_name(host): _target(host, to) for host, to in settings.hosts.items()}
        self._dns = _endpoint("[net] dns", settings.dns, 53) if settings.dns else None

    def mapping(self, host: str, port: int) -> tuple[str, int] | None:
        """Where `[net.hosts]` sends the name (an entry `name:port` before a plain `name`)."""
        name = _name(host)
        target = self._hosts.get(f"{name}:{port}") or self._hosts.get(name)
        return target and (target[0], target[1] or port)

    @staticmethod
    def is_literal(host: str) -> bool:
        """Whether the host is an address already; such a host is never looked up."""
        return _literal(host) is not None

    def permits(self, ip: IPAddress, port: int) -> bool:
        """Whether an address that is not the operator's may be connected to."""
        if any(ip in network and want in (None, port) for network, want in self._allow):
            return True
        carried = _carried(ip)
        if carried is not None:
            return self.permits(carried, port)
        return not any(ip in network for network in _REFUSED)

    async def resolve(self, host: str, port: int, *, trusted: bool = False) -> list[Address]:
        """The addresses to connect to, in order; `trusted` for the operator's own configuration.

        Raises Blocked when none may be reached, Unresolved when there is none.
        """
        if mapped := self.mapping(host, port):
            found = await self._addresses(*mapped)
            return [Address(str(ip), mapped[1], mapped=True) for ip in found]
        found = await self._addresses(host, port)
        if not trusted:
            found = [ip for ip in found if self.permits(ip, port)]
        if not found:
            raise Blocked(host)
        return [Address(str(ip), port) for ip in found]

    async def _addresses(self, host: str, port: int) -> list[IPAddress]:
        literal = _literal(host)
        if literal is not None:
            return [literal]
        name = _name(host)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                if self._dns and name != "localhost":
                    return await dns.lookup(self._dns, name)
                return await _system(name, port)
        except (OSError, UnicodeError) as error:
            raise Unresolved(host) from error


async def _system(name: str, port: int) -> list[IPAddress]:
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    # A scope ("fe80::1%eth0") is no part of the address that is judged.
    found = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in infos]
    return list(dict.fromkeys(found))


def _carried(ip: IPAddress) -> ipaddress.IPv4Address | None:
    for network, shift in _CARRIERS:
        if ip in network:
            return ipaddress.IPv4Address((int(ip) >> shift) & 0xFFFFFFFF)
    return None


def _name(host: str) -> str:
    return host.lower().removesuffix(".")


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _rule(entry: str) -> tuple[Network, int | None]:
    """`10.1.2.3`, `10.1.2.3:5432`, `10.0.0.0/8`, `fd00::1`, `[fd00::1]:5432`, `[fd00::/8]:5432`."""
    host, port = _split(entry)
    try:
        return ipaddress.ip_network(host), port
    except ValueError:
        raise ValueError(
            f"[net] allow: '{entry}' is not an address, address:port or CIDR"
        ) from None


def _target(host: str, to: str) -> tuple[str, int | None]:
    target, port = _split(to)
    if not target:
        raise ValueError(f"[net.hosts] '{host}': '{to}' is not an address or address:port")
    return target, port


def _endpoint(setting: str, text: str, default_port: int) -> tuple[str, int]:
    host, port = _split(text)
    if _literal(host) is None:
        raise ValueError(f"{setting}: '{text}' is not an address or address:port")
    return host, port or default_port


def _split(text: str) -> tuple[str, int | None]:
    """Host and port; a bare IPv6 address has colons of its own and no port."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"'{text}': '{port}' is not a port")
    return host, int(port) if port else None
