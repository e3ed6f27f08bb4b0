"""Outbound HTTP against servers on real sockets."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web as peers

from lantern.core.errors import BadRequest, Upstream, UpstreamTimeout
from lantern.core.net import Blocked, Unresolved
from lantern.core.web import Caps, Web
from lantern.settings import NetSettings

SITE = "acme.example"
OTHER = "other.example"


class Site:
    """A web site that remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.port = 0

    async def start(self) -> peers.AppRunner:
        app = peers.Application()
        app.router.add_route("*", "/{tail:.*}", self.serve)
        runner = peers.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = peers.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def serve(self, request: peers.Request) -> peers.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.method, request.path, headers, await request.read()))
        page = getattr(self, request.path.strip("/").replace("-", "_"), None)
        answer: peers.StreamResponse = await page(request) if page else peers.Response(text="hello")
        return answer

    async def cookie(self, _: peers.Request) -> peers.Response:
        return peers.Response(text="set", headers={"Set-Cookie": "a=1"})

    async def to(self, request: peers.Request) -> peers.Response:
        status = int(request.query.get("status", "302"))
        return peers.Response(status=status, headers={"Location": request.query["where"]})

    async def around(self, _: peers.Request) -> peers.Response:
        return peers.Response(status=302, headers={"Location": "/around"})

    async def nowhere(self, _: peers.Request) -> peers.Response:
        return peers.Response(status=304)

    async def long(self, request: peers.Request) -> peers.StreamResponse:
        answer = peers.StreamResponse()
        await answer.prepare(request)
        for _ in range(1000):
            await answer.write(b"x" * 10_000)
        return answer

    async def bomb(self, _: peers.Request) -> peers.Response:
        packed = gzip.compress(b"\0" * 50_000_000)
        return peers.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async def packed(self, _: peers.Request) -> peers.Response:
        return peers.Response(body=gzip.compress(b"small"), headers={"Content-Encoding": "gzip"})

    async def spoiled(self, _: peers.Request) -> peers.Response:
        return peers.Response(body=zlib.compress(b"x")[:3], headers={"Content-Encoding": "gzip"})

    async def slow(self, _: peers.Request) -> peers.Response:
        await asyncio.sleep(5)
        return peers.Response(text="late")

    async def cut(self, request: peers.Request) -> peers.StreamResponse:
        answer = peers.StreamResponse(headers={"Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport
        request.transport.close()
        return answer


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    runner = await site.start()
    yield site
    await runner.cleanup()


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[Web]:
    web = Web(NetSettings(**settings))
    await web.open()
    try:
        yield web
    finally:
        await web.close()


@pytest.fixture
async def web(site: Site) -> AsyncIterator[Web]:
    """Knows the site under two names, one of them by address."""
    at = f"127.0.0.1:{site.port}"
    async with opened(hosts={SITE: at, OTHER: at}, allow=[f"127.0.0.1:{site.port}"]) as web:
        yield web


async def test_an_address_from_outside_never_reaches_this_machine(site: Site) -> None:
    async with opened() as web:
        for host in (
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "127.1",
            "2130706433",
        ):
            with pytest.raises((Blocked, Unresolved)):
                await web.fetch(f"http://{host}:{site.port}/")
    assert site.seen == []


async def test_an_allowed_address_is_reached(web: Web, site: Site) -> None:
    answer = await web.fetch(f"http://127.0.0.1:{site.port}/a?b=1")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.url == f"http://127.0.0.1:{site.port}/a?b=1"
    with pytest.raises(Blocked):
        await web.fetch(f"http://127.0.0.1:{site.port + 1}/")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_mapped_name_goes_there_in_clear_text(web: Web, site: Site, scheme: str) -> None:
    answer = await web.fetch(f"{scheme}://{SITE}/page")
    assert answer.url == f"{scheme}://{SITE}/page"
    assert site.seen[0][2]["host"] == SITE


async def test_any_status_is_an_answer(web: Web, site: Site) -> None:
    assert (await web.fetch(f"http://{SITE}/nowhere")).status == 304


async def test_method_headers_and_body_arrive(web: Web, site: Site) -> None:
    await web.fetch(
        f"http://{SITE}/in", method="POST", headers={"X-A": "1", "Host": "evil"}, body=b"{}"
    )
    method, path, headers, body = site.seen[0]
    assert (method, path, headers["x-a"], body) == ("POST", "/in", "1", b"{}")
    assert headers["host"] == SITE


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://acme.example/",
        "gopher://acme.example/",
        "acme.example",
        "http://",
        "http://user:pw@acme.example/",
        "http://[::1",
        "http://acme.example:99999/",
        "",
    ],
)
async def test_what_is_no_web_address_is_refused(web: Web, site: Site, url: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await web.fetch(url)
    assert "pw" not in refused.value.message
    assert site.seen == []


async def test_no_cookie_is_kept(web: Web, site: Site) -> None:
    await web.fetch(f"http://{SITE}/cookie")
    await web.fetch(f"http://{SITE}/page")
    assert "cookie" not in site.seen[1][2]


async def test_redirects_are_followed(web: Web, site: Site) -> None:
    answer = await web.fetch(f"http://{SITE}/to?where=/page")
    assert (answer.url, answer.body) == (f"http://{SITE}/page", b"hello")


async def test_every_redirect_is_judged(site: Site) -> None:
    inside = f"http://127.0.0.1:{site.port}/secret"
    async with opened(hosts={SITE: f"127.0.0.1:{site.port}"}) as web:
        for where in (inside, f"http://localhost:{site.port}/secret", "file:///etc/passwd"):
            with pytest.raises(BadRequest):
                await web.fetch(f"http://{SITE}/to?where={where}")
    assert {path for _, path, _, _ in site.seen} == {"/to"}


async def test_redirects_without_end_stop(web: Web, site: Site) -> None:
    with pytest.raises(Upstream, match="more than 5 times"):
        await web.fetch(f"http://{SITE}/around")
    assert len(site.seen) == 6


async def test_credentials_do_not_follow_to_another_origin(web: Web, site: Site) -> None:
    mine = {"Authorization": "Bearer secret", "X-Api-Key": "secret", "Accept": "text/plain"}
    await web.fetch(f"http://{SITE}/to?where=/page", headers=mine)
    await web.fetch(f"http://{SITE}/to?where=http://{OTHER}/page", headers=mine)
    same, other = site.seen[1][2], site.seen[3][2]
    assert (same["authorization"], same["x-api-key"]) == ("Bearer secret", "secret")
    assert "secret" not in str(other)
    assert (other["accept"], other["host"]) == ("text/plain", OTHER)


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [
        (301, "GET", b""),
        (302, "GET", b""),
        (303, "GET", b""),
        (307, "POST", b"x"),
        (308, "POST", b"x"),
    ],
)
async def test_a_redirected_post(
    web: Web, site: Site, status: int, method: str, body: bytes
) -> None:
    await web.fetch(f"http://{SITE}/to?status={status}&where=/page", method="POST", body=b"x")
    assert (site.seen[1][0], site.seen[1][3]) == (method, body)


async def test_a_long_answer_is_cut_off(web: Web) -> None:
    with pytest.raises(Upstream, match="more than 50000 bytes"):
        await web.fetch(f"http://{SITE}/long", caps=Caps(max_bytes=50_000))
    with pytest.raises(Upstream, match="more than 3 bytes"):
        await web.fetch(f"http://{SITE}/page", caps=Caps(max_bytes=3))


async def test_bytes_are_counted_after_decompression(web: Web) -> None:
    assert (await web.fetch(f"http://{SITE}/packed")).body == b"small"
    with pytest.raises(Upstream, match="more than 1000000 bytes"):
        await web.fetch(f"http://{SITE}/bomb", caps=Caps(max_bytes=1_000_000))


@pytest.mark.parametrize("page", ["spoiled", "cut"])
async def test_a_broken_answer(web: Web, page: str) -> None:
    with pytest.raises(Upstream, match="cannot be reached"):
        await web.fetch(f"http://{SITE}/{page}")


async def test_a_slow_answer_is_given_up(web: Web) -> None:
    with pytest.raises(UpstreamTimeout, match="in time"):
        await web.fetch(f"http://{SITE}/slow", caps=Caps(seconds=0.2))


async def test_nobody_there() -> None:
    async with opened(allow=["127.0.0.1"]) as web:
        with pytest.raises(Upstream) as failed:
            await web.fetch("http://127.0.0.1:1/")
    assert failed.value.message == "'127.0.0.1' cannot be reached"


async def test_the_trusted_door_reaches_the_operators_address(site: Site) -> None:
    async with opened() as web:
        async with web.trusted.get(f"http://localhost:{site.port}/page") as answer:
            assert await answer.text() == "hello"
        assert site.seen[0][2]["user-agent"].startswith("Lantern/")


async def test_a_name_is_judged_when_it_is_connected_to(site: Site) -> None:
    """The second answer of a rebinding name server changes nothing."""
    answers = iter(["93.184.216.34", "127.0.0.1"])

    class Rebinding(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            question = data[12:]
            if question[-3] != 1:  # only IPv4
                self.transport.sendto(data[:2] + b"\x81\x83\0\x01\0\0\0\0\0\0" + question, addr)
                return
            ip = bytes(int(part) for part in next(answers, "127.0.0.1").split("."))
            record = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04" + ip
            head = data[:2] + b"\x81\x80\0\x01\0\x01\0\0\0\0"
            self.transport.sendto(head + question + record, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Rebinding, local_addr=("127.0.0.1", 0))
    try:
        dns = "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
        async with opened(dns=dns) as web:
            assert (await web.guard.resolve("rebinding.example", site.port))[
                0
            ].ip == "93.184.216.34"
            with pytest.raises(Blocked):
                await web.fetch(f"http://rebinding.example:{site.port}/")
    finally:
        transport.close()
    assert site.seen == []
