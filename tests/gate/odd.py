"""A server with routes that misbehave: what a capability could do wrong, the edge must survive."""

import asyncio
from collections import Counter
from typing import Any

import psycopg
from fastapi import APIRouter, Request
from servers import InProcess

from lantern.core import http
from lantern.gate.auth import Current
from lantern.gate.limits import needs

SECRET = "lnt_" + "S3cret" * 6
router = APIRouter()


class Odd(InProcess):
    """The product's server with the routes below; `dsn` is the superuser's."""

    def __init__(self, dsn: str, **overrides: Any) -> None:
        super().__init__(dsn, **overrides)
        self.app.router.routes.extend(router.routes)
        self.calls: Counter[str] = Counter()
        self.hold = asyncio.Event()
        self.app.state.odd = self
        self.app.state.superuser = dsn


@router.post("/v1/odd/{kind}")
@needs("write")
async def odd(call: Current, request: Request, kind: str) -> Any:
    """Write a row, then do what `kind` says."""
    own: Odd = request.app.state.odd
    own.calls[kind] += 1
    await call.tx.run(
        "insert into audit_log (tenant_id, actor, action) values (%s, 'odd', %s)",
        (call.tenant, kind),
    )
    call.after_commit.append(lambda: own.calls.update([f"{kind}:committed"]))
    match kind:
        case "crash":
            raise RuntimeError(f"{SECRET} of ann@example.com")
        case "file":
            raise FileNotFoundError("/etc/nothing")
        case "serialize-once" if own.calls[kind] == 1:
            await _fail(call, "40001")
        case "serialize":
            await _fail(call, "40001")
        case "deadlock-once" if own.calls[kind] == 1:
            await _fail(call, "40P01")
        case "returns-409":
            return http.Json({"no": own.calls[kind]}, 409)
        case "late":
            call.after_commit.append(_late)
        case "killed":
            await _kill(call, request)
        case "waits":
            await own.hold.wait()
    return http.Json({"n": own.calls[kind]}, 201)


@router.post("/v1/forms/odd")
@needs("write")
async def odd_form(call: Current) -> Any:
    """A crash in the flat half."""
    raise RuntimeError(SECRET)


@router.get("/v1/odd/stream")
@needs("read", stream=True)
async def odd_stream(call: Current) -> Any:
    """A stream that breaks in the middle."""

    async def source() -> Any:
        yield b"data: one\n\n"
        raise RuntimeError(SECRET)

    return http.EventStream(source(), 5)


async def _fail(call: Current, code: str) -> None:
    await call.tx.run(f"do $$ begin raise exception 'again' using errcode = '{code}'; end $$")


async def _kill(call: Current, request: Request) -> None:
    # Everything is written; the backend dies before COMMIT reaches it.
    row = await call.tx.one("select pg_backend_pid() as pid")
    assert row
    async with await psycopg.AsyncConnection.connect(request.app.state.superuser) as boss:
        await boss.execute("select pg_terminate_backend(%s, 5000)", (row["pid"],))


def _late() -> None:
    raise RuntimeError("after the commit")
