"""Outbound HTTP. Two doors: `trusted` for the operator's addresses, `fetch` for everyone else's.

`fetch` asks the Guard at the moment of connecting and again on every redirect, keeps no cookies,
and stops at a number of bytes (after decompression) and of seconds.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from lantern import __version__
from lantern.core.errors import BadRequest, Upstream, UpstreamTimeout
from lantern.core.net import Blocked, Guard
from lantern.settings import NetSettings

USER_AGENT = f"Lantern/{__version__}"

_TRUSTED_CONNECTIONS = 4096
_GUARDED_CONNECTIONS = 256
_GUARDED_PER_HOST = 16
_KEEPALIVE_SECONDS = 30.0
_DNS_CACHE_SECONDS = 30
_CONNECT_SECONDS = 10.0
_REDIRECTS = {301, 302, 303, 307, 308}
# What may follow a redirect to another origin: nothing that could be a credential.
_PORTABLE = {"accept", "accept-language", "user-agent"}


class Caps(NamedTuple):
    """Bounds of one fetch, redirects included; bytes are counted after decompression."""

    max_bytes: int = 5_000_000
    seconds: float = 20.0
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: the address it came from after redirects, header names in lower case."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes


class Route(NamedTuple):
    """Where a request really goes, and the headers that say whom it means."""

    url: URL
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: URL
    headers: dict[str, str]
    body: bytes | None

    def redirected(self, status: int, location: str) -> "_Request":
        try:
            url = self.url.join(URL(location))
        except ValueError as error:
            raise Upstream(f"'{self.url.host}' redirects to no valid address") from error
        headers, method, body = self.headers, self.method, self.body
        if _origin(url) != _origin(self.url):
            headers = {name: value for name, value in headers.items() if name in _PORTABLE}
        if status == 303 or (status in {301, 302} and method == "POST"):
            method, body = ("HEAD" if method == "HEAD" else "GET"), None
            headers = {name: value for name, value in headers.items() if name != "content-type"}
        return _Request(method, url, headers, body)


class _Resolver(AbstractResolver):
    """The Guard as aiohttp's resolver: it is asked when a connection is made, not before."""

    def __init__(self, guard: Guard, *, trusted: bool) -> None:
        self._guard = guard
        self._trusted = trusted

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address.ip,
                port=address.port,
                family=socket.AF_INET6 if ":" in address.ip else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._guard.resolve(host, port, trusted=self._trusted)
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Web:
    """Both doors of one process. Open it inside the loop that uses it."""

    def __init__(self, settings: NetSettings) -> None:
        self.guard = Guard(settings)
        self._trusted: aiohttp.ClientSession | None = None
        self._guarded: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pools; nothing is connected yet."""
        self._trusted = _session(
            aiohttp.TCPConnector(
                limit=_TRUSTED_CONNECTIONS,
                keepalive_timeout=_KEEPALIVE_SECONDS,
                ttl_dns_cache=_DNS_CACHE_SECONDS,
                resolver=_Resolver(self.guard, trusted=True),
            )
        )
        self._guarded = _session(
            aiohttp.TCPConnector(
                limit=_GUARDED_CONNECTIONS,
                limit_per_host=_GUARDED_PER_HOST,
                use_dns_cache=False,  # each new connection is judged anew
                resolver=_Resolver(self.guard, trusted=False),
            )
        )

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._trusted, self._guarded):
            if session is not None:
                await session.close()
        self._trusted = self._guarded = None

    @property
    def trusted(self) -> aiohttp.ClientSession:
        """For addresses of the operator's own configuration, such as models."""
        assert self._trusted is not None, "Web is not open"
        return self._trusted

    async def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, caps: Caps | None = None
    ) -> Fetched:
        """POST to an address of the operator's own configuration; a redirect is an answer too.

        Raises BadRequest (Unresolved), Upstream (unreachable, too large) or UpstreamTimeout.
        """
        caps = caps or Caps()
        to = _parse(url)
        try:
            async with asyncio.timeout(caps.seconds):
                route = await self.route(to, trusted=True)
                async with self.trusted.post(
                    route.url,
                    headers={**headers, **route.headers},
                    data=body,
                    allow_redirects=False,
                ) as response:
                    return await _read(response, to, caps.max_bytes)
        except TimeoutError as error:
            raise UpstreamTimeout(f"'{to.host}' did not answer in time") from error
        except aiohttp.ClientError as error:
            raise Upstream(f"'{to.host}' cannot be reached") from error

    async def route(self, url: URL, *, trusted: bool = False) -> Route:
        """Check an address and apply `[net.hosts]`. Raises BadRequest, Blocked, Unresolved.

        Names are not resolved here but at connect time; literal addresses are never resolved by
        aiohttp, so they are judged here.
        """
        if url.scheme not in {"http", "https"} or not url.host or not url.port:
            raise BadRequest(f"'{url.host or url.scheme}' is not an http or https address")
        if url.user is not None or url.password is not None:
            raise BadRequest(f"'{url.host}': an address may not carry credentials")
        if self.guard.mapping(url.host, url.port):
            address = (await self.guard.resolve(url.host, url.port))[0]
            # A mapped peer stands in for the real one and has no certificate for its name.
            moved = url.with_scheme("http").with_host(address.ip).with_port(address.port)
            return Route(moved, {"Host": url.host_port_subcomponent or url.host})
        if not trusted and self.guard.is_literal(url.host):
            await self.guard.resolve(url.host, url.port)
        return Route(url, {})

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        caps: Caps | None = None,
    ) -> Fetched:
        """Fetch an address that a user, an agent or a page gave; any status is an answer.

        Raises BadRequest (Blocked, Unresolved), Upstream (unreachable, too large, redirects
        without end) or UpstreamTimeout.
        """
        caps = caps or Caps()
        lowered = {name.lower(): value for name, value in (headers or {}).items()}
        lowered.pop("host", None)
        request = _Request(method, _parse(url), lowered, body)
        host = request.url.host
        try:
            async with asyncio.timeout(caps.seconds):
                return await self._follow(request, caps)
        except TimeoutError as error:
            raise UpstreamTimeout(f"'{host}' did not answer in time") from error
        except aiohttp.InvalidURL as error:
            raise Blocked(str(host)) from error
        except aiohttp.ClientError as error:
            raise Upstream(f"'{host}' cannot be reached") from error

    async def _follow(self, request: _Request, caps: Caps) -> Fetched:
        assert self._guarded is not None, "Web is not open"
        for _ in range(caps.redirects + 1):
            route = await self.route(request.url)
            async with self._guarded.request(
                request.method,
                route.url,
                headers={**request.headers, **route.headers},
                data=request.body,
                allow_redirects=False,
            ) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    return await _read(response, request.url, caps.max_bytes)
                request = request.redirected(response.status, location)
        raise Upstream(f"'{request.url.host}' redirects more than {caps.redirects} times")


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        headers={"User-Agent": USER_AGENT},
        trust_env=False,  # a proxy would connect on our behalf, past the Guard
    )


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port


def _parse(url: str) -> URL:
    try:
        return URL(url)
    except ValueError as error:
        raise BadRequest("not a valid http or https address") from error


async def _read(response: aiohttp.ClientResponse, url: URL, max_bytes: int) -> Fetched:
    too_large = Upstream(f"'{url.host}' answered with more than {max_bytes} bytes")
    if (response.content_length or 0) > max_bytes:
        raise too_large
    body = bytearray()
    async for data in response.content.iter_any():
        body += data
        if len(body) > max_bytes:
            response.close()
            raise too_large
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Fetched(str(url), response.status, headers, bytes(body))
