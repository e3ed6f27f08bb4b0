"""Bodies: too large, too slow, not JSON, not UTF-8, not what Postgres can keep. Never a 500."""

import asyncio
import json
import time

import pytest
from callers import caller, code_of, forget_failures

JSON = {"content-type": "application/json"}
MEGABYTE = 1_000_000


@pytest.fixture(autouse=True)
async def clean_address(db):
    await forget_failures(db)
    yield
    await forget_failures(db)


def body_of(size: int) -> bytes:
    """An agent whose JSON has exactly that many bytes."""
    frame = b'{"name":"big","labels":{"a":""}}'
    spaces = size - len(frame)
    return frame[:-1] + b" " * spaces + frame[-1:]


async def chunks(body: bytes, size: int = 50_000):
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def total(api) -> int:
    return int((await api.get("/v1/agents")).json()["total"])


@pytest.mark.parametrize("path", ["/v1/agents", "/v1/agents/x/runs", "/v1/runs"])
@pytest.mark.parametrize("declared", [True, False])
async def test_over_a_megabyte_is_413_and_nothing_is_stored(api, path, declared):
    large = body_of(MEGABYTE + 1)
    content = large if declared else chunks(large)
    answer = await api.post(path, content=content, headers=JSON)
    assert (answer.status_code, code_of(answer)) == (413, "too_large")
    assert await total(api) == 0


@pytest.mark.parametrize("declared", [True, False])
async def test_a_megabyte_exactly_is_taken(api, declared):
    full = body_of(MEGABYTE)
    answer = await api.post("/v1/agents", content=full if declared else chunks(full), headers=JSON)
    assert answer.status_code == 201, answer.text


async def test_a_size_that_is_declared_is_refused_unread(server, tenant):
    """The answer comes before a byte of the body does."""
    reader, writer = await connect(server.url)
    head = request_head("POST", "/v1/agents", tenant.key, f"Content-Length: {10**12}")
    writer.write(head)
    async with asyncio.timeout(5):
        line = await reader.readline()
    assert b" 413 " in line
    writer.close()


async def test_nobody_makes_us_read_a_body(server):
    """Without a key the answer comes before the body, on the one-statement route as well."""
    for path in ("/v1/agents", "/v1/agents/x/runs", "/v1/nope"):
        reader, writer = await connect(server.url)
        writer.write(request_head("POST", path, None, "Content-Length: 900000"))
        async with asyncio.timeout(5):
            line = await reader.readline()
        assert b" 401 " in line
        writer.close()


async def test_bad_json_without_a_key_is_401(server):
    async with caller(server.url) as nobody:
        for path in ("/v1/agents", "/v1/agents/x/runs", "/v1/runs", "/v1/api-keys"):
            for content in (b"{", b"\xff", b"x" * (MEGABYTE + 1)):
                answer = await nobody.post(path, content=content, headers=JSON)
                assert (answer.status_code, code_of(answer)) == (401, "unauthorized")


async def test_slow_bodies_hold_no_database_connection(server, api, tenant):
    """Twice as many callers as connections dawdle, and everybody else is served."""
    callers = []
    for n in range(20):
        path, body = ("/v1/agents", {"name": f"slow-{n}"})
        if n % 2:
            path, body = ("/v1/agents/none/runs", {"input": {}})
        content = json.dumps(body).encode()
        reader, writer = await connect(server.url)
        head = request_head("POST", path, tenant.key, f"Content-Length: {len(content)}")
        writer.write(head + content[:5])
        await writer.drain()
        callers.append((reader, writer, content[5:], 404 if n % 2 else 201))
    began = time.monotonic()
    answers = await asyncio.gather(*[api.get("/v1/agents") for _ in range(30)])
    assert {a.status_code for a in answers} == {200}
    assert time.monotonic() - began < 5
    for reader, writer, rest, status in callers:
        writer.write(rest)
        line = await reader.readline()
        assert f" {status} ".encode() in line
        writer.close()
    assert await total(api) == 10


async def test_a_caller_who_hangs_up_in_the_middle_leaves_nothing(server, api, tenant):
    for path in ("/v1/agents", "/v1/agents/none/runs"):
        _, writer = await connect(server.url)
        writer.write(request_head("POST", path, tenant.key, "Content-Length: 100") + b'{"name":')
        await writer.drain()
        writer.transport.abort()
    assert await total(api) == 0


NO_AGENTS = (
    b"",
    b"{",
    b"\x00",
    b"\xff\xfe",
    b'{"name": "a\xff"}',
    b'{"name": "a"} x',
    b"{'name': 'a'}",
    b"NaN",
    b'{"name": "a", "guardrails": {"max_cost_per_run": NaN}}',
    b'{"name": "a", "guardrails": {"max_cost_per_run": -Infinity}}',
    b'{"name": "a", "guardrails": {"max_cost_per_run": 1e999}}',
    b'{"name": "a", "guardrails": {"max_steps": 1e999}}',
    b'{"name": "a", "guardrails": {"max_steps": 99999999999999999999999999}}',
    b'{"name": ' + b"9" * 10_000 + b"}",
    b"[" * 100_000,
    b'{"name":' * 50_000,
    b"[]",
    b"null",
    b"3",
    b'"name"',
)


async def test_what_is_no_agent_is_400(api):
    await api.post("/v1/agents", json={"name": "there"})
    for body in NO_AGENTS:
        for method, path in (("POST", "/v1/agents"), ("PATCH", "/v1/agents/there")):
            answer = await api.request(method, path, content=body, headers=JSON)
            assert (answer.status_code, code_of(answer)) == (400, "bad_request"), body[:50]
    assert await total(api) == 1


async def test_numbers_that_json_does_not_know_are_refused_in_free_fields_too(api):
    await api.post("/v1/agents", json={"name": "a", "model": "small"})
    for number in ("NaN", "Infinity", "-Infinity"):
        body = '{"input": {"x": [1, {"y": NUMBER}]}}'.replace("NUMBER", number)
        answer = await api.post("/v1/agents/a/runs", content=body, headers=JSON)
        assert (answer.status_code, code_of(answer)) == (400, "bad_request")
    text = {"input": {"question": "Is NaN larger than Infinity?"}}
    assert (await api.post("/v1/agents/a/runs", json=text)).status_code == 201


CONTENT_TYPES = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/xml",
    "garbage",
    "",
)


async def test_other_content_types_are_400(api):
    for content_type in CONTENT_TYPES:
        for content in (b'{"name": "a"}', b"\xff\xfe\x00", b"name=a"):
            answer = await api.post(
                "/v1/agents", content=content, headers={"content-type": content_type}
            )
            assert (answer.status_code, code_of(answer)) == (400, "bad_request")


UNFIT = [
    ("agents", '{"name": "%s"}', "name"),
    ("agents", '{"name": "b", "description": "%s"}', "description"),
    ("agents", '{"name": "b", "system_prompt": "%s"}', "system_prompt"),
    ("agents", '{"name": "b", "model": "%s"}', "model"),
    ("agents", '{"name": "b", "id": "%s"}', "id"),
    ("agents", '{"name": "b", "labels": {"k": "%s"}}', "labels"),
    ("agents", '{"name": "b", "labels": {"%s": "v"}}', "labels"),
    ("agents", '{"name": "b", "connectors": ["%s"]}', "connectors"),
    ("agents", '{"name": "b", "surfaces": ["%s"]}', "surfaces"),
    ("agents", '{"name": "b", "guardrails": {"require_approval": ["%s"]}}', "require_approval"),
    ("agents", '{"name": "b", "guardrails": {"%s": 1}}', "guardrails"),
    ("agents", '{"name": "b", "%s": 1}', ""),
    ("api-keys", '{"name": "%s"}', "name"),
    ("api-keys", '{"name": "k", "agents": ["%s"]}', "agents"),
    ("api-keys", '{"name": "k", "scopes": ["%s"]}', "scopes"),
    ("api-keys", '{"name": "k", "expires_at": "%s"}', "expires_at"),
    ("agents/a/runs", '{"input": {}, "labels": {"k": "%s"}}', "labels"),
    ("agents/a/runs", '{"input": {}, "labels": {"%s": "v"}}', "labels"),
    ("agents/a/runs", '{"input": {}, "idempotency_key": "%s"}', "idempotency_key"),
    ("runs", '{"input": {}, "agent_name": "%s"}', "agent_name"),
]


CHANGES = (
    '{"description": "%s"}',
    '{"labels": {"%s": "v"}}',
    '{"guardrails": {"require_approval": ["%s"]}}',
    '{"guardrails": {"%s": 1}}',
    '{"name": "%s"}',
    '{"%s": 1}',
)


@pytest.mark.parametrize("text", ["x\\u0000y", "x\\ud800y", "\\udc00"])
async def test_no_field_takes_what_postgres_cannot_keep(api, text):
    for path, body, field in UNFIT:
        answer = await api.post(f"/v1/{path}", content=body % text, headers=JSON)
        assert (answer.status_code, code_of(answer)) == (400, "bad_request"), answer.text
        assert field in answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["x\\u0000y", "\\ud800"])
async def test_no_change_does_either(api, text):
    await api.post("/v1/agents", json={"name": "a"})
    before = (await api.get("/v1/agents/a")).json()
    for body in CHANGES:
        answer = await api.patch("/v1/agents/a", content=body % text, headers=JSON)
        assert (answer.status_code, code_of(answer)) == (400, "bad_request"), answer.text
    assert (await api.get("/v1/agents/a")).json() == before


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


def request_head(method: str, path: str, key: str | None, *more: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *more]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
