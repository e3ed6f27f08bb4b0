"""Which addresses may be reached, and how names become addresses."""

import asyncio
import ipaddress
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lantern.core import dns
from lantern.core.net import Address, Blocked, Guard, Unresolved
from lantern.settings import NetSettings

PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2606:4700:4700::1111",
]


def guard(**settings: object) -> Guard:
    return Guard(NetSettings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", PRIVATE)
async def test_special_addresses_are_refused(host: str) -> None:
    with pytest.raises(Blocked) as refused:
        await guard().resolve(host, 80)
    assert host in refused.value.message
    assert refused.value.status == 400


@pytest.mark.parametrize("host", PUBLIC)
async def test_public_addresses_pass(host: str) -> None:
    assert await guard().resolve(host, 443) == [Address(str(ipaddress.ip_address(host)), 443)]


@pytest.mark.parametrize("host", ["0x7f000001", "127.1", "2130706433", "0177.0.0.1", "localhost"])
async def test_no_spelling_of_loopback_gets_around(host: str) -> None:
    with pytest.raises((Blocked, Unresolved)):
        await guard().resolve(host, 80)


async def test_the_message_names_the_host_but_not_what_it_resolved_to() -> None:
    with pytest.raises(Blocked) as refused:
        await guard().resolve("localhost", 80)
    assert "localhost" in refused.value.message
    assert "127.0.0.1" not in refused.value.message
    assert "::1" not in refused.value.message


async def test_the_operator_is_trusted() -> None:
    assert await guard().resolve("127.0.0.1", 80, trusted=True) == [Address("127.0.0.1", 80)]
    assert await guard().resolve("localhost", 80, trusted=True)


@pytest.mark.parametrize(
    ("allow", "host", "port", "fine"),
    [
        ("10.1.2.3:5432", "10.1.2.3", 5432, True),
        ("10.1.2.3:5432", "10.1.2.3", 5433, False),
        ("10.1.2.3:5432", "10.1.2.4", 5432, False),
        ("10.1.2.3", "10.1.2.3", 1, True),
        ("10.1.0.0/16", "10.1.200.1", 80, True),
        ("10.1.0.0/16", "10.2.0.1", 80, False),
        ("10.1.0.0/16:80", "10.1.0.1", 81, False),
        ("10.1.2.3", "::ffff:10.1.2.3", 80, True),
        ("fd00::1", "fd00::1", 80, True),
        ("[fd00::1]:80", "fd00::1", 80, True),
        ("[fd00::1]:80", "fd00::1", 81, False),
        ("fd00::/8", "fd99::7", 80, True),
        ("10.1.2.3", "fd00::1", 80, False),
    ],
)
async def test_allow(allow: str, host: str, port: int, fine: bool) -> None:
    chosen = guard(allow=[allow])
    if fine:
        assert await chosen.resolve(host, port)
    else:
        with pytest.raises(Blocked):
            await chosen.resolve(host, port)


@pytest.mark.parametrize(
    "entry", ["db.internal:5432", "10.0.0.0/99", "10.1.2.3:0", "10.1.2.3:x", ""]
)
def test_a_wrong_allow_entry_is_told_at_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match=r"allow|port"):
        guard(allow=[entry])


@pytest.mark.parametrize("dns_server", ["resolver.example", "127.0.0.1:99999"])
def test_a_wrong_resolver_is_told_at_the_start(dns_server: str) -> None:
    with pytest.raises(ValueError, match=r"dns|port"):
        guard(dns=dns_server)


async def test_mapped_names_pass_and_keep_their_own_port() -> None:
    chosen = guard(
        hosts={
            "Acme.example": "127.0.0.1:9001",
            "portless.example": "127.0.0.1",
            "acme.example:25": "127.0.0.1:2525",
            "named.example": "localhost:9002",
        }
    )
    assert await chosen.resolve("acme.EXAMPLE.", 443) == [Address("127.0.0.1", 9001, mapped=True)]
    assert await chosen.resolve("acme.example", 25) == [Address("127.0.0.1", 2525, mapped=True)]
    assert (await chosen.resolve("portless.example", 80))[0].port == 80
    assert all(a.mapped and a.port == 9002 for a in await chosen.resolve("named.example", 80))


@given(st.ip_addresses(v=4))
def test_an_embedded_address_is_judged_like_the_bare_one(ip: ipaddress.IPv4Address) -> None:
    chosen = guard()
    for carrier in (
        ipaddress.IPv6Address(f"::ffff:{ip}"),
        ipaddress.IPv6Address(f"64:ff9b::{ip}"),
        ipaddress.IPv6Address((0x2002 << 112) | (int(ip) << 80) | 1),
    ):
        assert chosen.permits(carrier, 80) is chosen.permits(ip, 80)


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_passes(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if ip.is_private or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        mapped = getattr(ip, "ipv4_mapped", None)
        assert not guard().permits(ip, 80) or (mapped is not None and mapped.is_global)


# ---------------------------------------------------------------- the resolver of [net] dns


class Resolver(asyncio.DatagramProtocol):
    """A name server with a few names and a few bad habits."""

    NAMES = {
        ("public.example", dns.TYPE_A): ["93.184.216.34"],
        ("public.example", dns.TYPE_AAAA): ["2606:2800:220:1::1"],
        ("inside.example", dns.TYPE_A): ["10.0.0.9"],
        ("mixed.example", dns.TYPE_A): ["10.0.0.9", "93.184.216.34"],
        ("late.example", dns.TYPE_A): ["93.184.216.34"],
        ("forged.example", dns.TYPE_A): ["93.184.216.34"],
        ("alias.example", dns.TYPE_A): ["93.184.216.35"],
    }

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        name, kind, question = self.parse(data)
        self.asked.append(name)
        if name == "silent.example" or (name == "late.example" and self.asked.count(name) <= 2):
            return
        if name == "garbage.example":
            self.transport.sendto(data[:2] + b"\x80\x00\x00\x01\x00\x05\0\0\0\0" + question, addr)
            return
        if name == "forged.example":
            wrong = struct.pack("!H", int.from_bytes(data[:2], "big") ^ 1)
            self.transport.sendto(wrong + self.answer(data, ["6.6.6.6"], question)[2:], addr)
        if name == "broken.example":
            self.transport.sendto(data[:2] + b"\x81\x82\0\x01\0\0\0\0\0\0" + question, addr)
            return
        self.transport.sendto(self.answer(data, self.NAMES.get((name, kind)), question), addr)

    @staticmethod
    def parse(data: bytes) -> tuple[str, int, bytes]:
        labels, at = [], 12
        while size := data[at]:
            labels.append(data[at + 1 : at + 1 + size].decode())
            at += 1 + size
        (kind,) = struct.unpack_from("!H", data, at + 1)
        return ".".join(labels), kind, data[12 : at + 5]

    @staticmethod
    def answer(query: bytes, addresses: list[str] | None, question: bytes) -> bytes:
        code = 0x8180 if addresses is not None else 0x8183
        records = b""
        if addresses == ["93.184.216.35"]:  # behind an alias, as resolvers answer
            records += b"\xc0\x0c" + struct.pack("!2HIH", 5, 1, 60, 2) + b"\xc0\x0c"
        for text in addresses or []:
            packed = ipaddress.ip_address(text).packed
            kind = dns.TYPE_A if len(packed) == 4 else dns.TYPE_AAAA
            records += b"\xc0\x0c" + struct.pack("!2HIH", kind, 1, 60, len(packed)) + packed
        count = records.count(b"\xc0\x0c\x00") if addresses else 0
        return query[:2] + struct.pack("!5H", code, 1, count, 0, 0) + question + records


@asynccontextmanager
async def name_server() -> AsyncIterator[tuple[Resolver, str]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(Resolver, local_addr=("127.0.0.1", 0))
    try:
        yield server, "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()


async def test_the_named_resolver_answers_for_both_families() -> None:
    async with name_server() as (_, address):
        found = await guard(dns=address).resolve("public.example", 443)
    assert [a.ip for a in found] == ["93.184.216.34", "2606:2800:220:1::1"]


async def test_what_the_resolver_answers_is_judged() -> None:
    async with name_server() as (_, address):
        chosen = guard(dns=address)
        with pytest.raises(Blocked) as refused:
            await chosen.resolve("inside.example", 80)
        assert "10.0.0.9" not in refused.value.message
        assert [a.ip for a in await chosen.resolve("mixed.example", 80)] == ["93.184.216.34"]
        assert [a.ip for a in await chosen.resolve("inside.example", 80, trusted=True)] == [
            "10.0.0.9"
        ]


async def test_an_alias_leads_to_its_address() -> None:
    async with name_server() as (_, address):
        found = await guard(dns=address).resolve("alias.example", 80)
    assert [a.ip for a in found] == ["93.184.216.35"]


async def test_an_answer_to_another_question_is_ignored() -> None:
    async with name_server() as (_, address):
        found = await guard(dns=address).resolve("forged.example", 80)
    assert [a.ip for a in found] == ["93.184.216.34"]


@pytest.mark.parametrize("name", ["unknown.example", "broken.example", "garbage.example"])
async def test_a_name_without_address_is_unresolved(name: str) -> None:
    async with name_server() as (_, address):
        with pytest.raises(Unresolved):
            await guard(dns=address).resolve(name, 80)


async def test_a_lost_packet_is_asked_again_and_silence_ends() -> None:
    async with name_server() as (server, address):
        host, port = address.split(":")
        found = await dns.lookup((host, int(port)), "late.example", timeout=0.2)
        assert [str(ip) for ip in found] == ["93.184.216.34"]
        with pytest.raises(dns.LookupFailed):
            await dns.lookup((host, int(port)), "silent.example", timeout=0.1)
    assert server.asked.count("silent.example") == 4  # two families, two attempts


@pytest.mark.parametrize("name", ["a..example", "x" * 64 + ".example", "." * 3, "a" * 300])
async def test_what_is_no_host_name_is_unresolved(name: str) -> None:
    async with name_server() as (_, address):
        with pytest.raises(Unresolved):
            await guard(dns=address).resolve(name, 80)


@given(st.binary(max_size=200))
def test_no_packet_breaks_the_reader(rest: bytes) -> None:
    query = dns.Query("public.example", dns.TYPE_A)
    packet = query.packet[:2] + b"\x81\x80\x00\x01\x00\x09\0\0\0\0" + query.packet[12:] + rest
    assert query.answered_by(packet)
    with suppress(dns.LookupFailed):
        assert all(isinstance(ip, ipaddress.IPv4Address) for ip in query.read(packet))
