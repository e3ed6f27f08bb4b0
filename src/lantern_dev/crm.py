"""A CRM's endpoint to develop and test against: it keeps owners, and applies each assignment once.

    CRM_SECRET=whsec_... python -m lantern_dev.crm --port 9300

or, inside a test, `async with RecordingCrm(secret) as crm: crm.url`. `GET /ctl` tells what it saw.
It can be told to refuse, to be slow, to be silent and to hang up, before or after applying.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

TOLERANCE_SECONDS = 300
Body = dict[str, Any]


@dataclass
class Fault:
    """What happens to the next `times` requests, to those for one record if it is named.

    `kind`: `status` (with `status`, `headers`, `body`), `hang`, `hangup`, `slow` (`seconds`);
    `applied` tells whether the write is applied first.
    """

    kind: str
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=dict)
    seconds: float = 0.0
    applied: bool = False
    record: str | None = None


@dataclass(frozen=True)
class Seen:
    """One request: when it came, what it said, whether its signature was good."""

    at: float
    headers: dict[str, str]
    body: Body
    signed: bool


class RecordingCrm:
    """The server. `owners` is its data; `applied` lists each write that changed them, in order."""

    def __init__(self, secret: str, port: int = 0) -> None:
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self.port = port
        self.requests: deque[Seen] = deque(maxlen=100_000)
        self.applied: list[Body] = []
        self.known: set[str] = set()
        self.owners: dict[tuple[int, str, str], str] = {}
        self.last: dict[tuple[int, str, str], int] = {}
        self.faults: list[Fault] = []
        self.gone: set[str] = set()
        self.inactive: set[str] = set()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/crm", self._take)
        app.router.add_get("/ctl", self._tell)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/crm"

    def fault(self, kind: str, **how: Any) -> Fault:
        """Let something go wrong with the next requests."""
        fault = Fault(kind, **how)
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """All is well again."""
        self.faults.clear()

    # ------------------------------------------------------------------ requests
    async def _take(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        body = await request.json()
        signed = self._verify(request, data)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Seen(time.monotonic(), headers, body, signed))
        if not signed:
            return web.json_response({"error": "signature"}, status=401)
        fault = self._next_fault(body)
        if fault is None:
            return self._answer(body)
        answer = self._answer(body) if fault.applied else None
        if fault.kind == "hang":
            await asyncio.Event().wait()
        if fault.kind == "hangup":
            assert request.transport is not None
            request.transport.abort()
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            return answer or self._answer(body)
        return web.json_response(fault.body, status=fault.status, headers=fault.headers)

    def _next_fault(self, body: Body) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.record in (None, body.get("record_id")):
                fault.times -= 1
                return fault
        return None

    def _answer(self, body: Body) -> web.Response:
        if body["type"] == "users.active":
            active = {user: user not in self.inactive for user in body["user_ids"]}
            return web.json_response({"active": active})
        if body["record_id"] in self.gone:
            return web.json_response({}, status=410)
        if body["owner_id"] in self.inactive:
            return web.json_response({"reason": "owner_inactive"}, status=409)
        self._apply(body)
        return web.json_response({"ok": True})

    def _apply(self, body: Body) -> None:
        if body["assignment_id"] in self.known:
            return
        self.known.add(body["assignment_id"])
        record = (body["tenant_id"], body["object"], body["record_id"])
        if body["sequence"] < self.last.get(record, 0):
            return  # late: a newer owner is there already
        self.last[record] = body["sequence"]
        self.owners[record] = body["owner_id"]
        self.applied.append(body)

    def _verify(self, request: web.Request, data: bytes) -> bool:
        """As the receiver's side of Standard Webhooks."""
        message = request.headers.get("webhook-id", "")
        at = request.headers.get("webhook-timestamp", "0")
        if not at.isdecimal() or abs(time.time() - int(at)) > TOLERANCE_SECONDS:
            return False
        content = f"{message}.{at}.".encode() + data
        right = base64.b64encode(hmac.new(self._key, content, hashlib.sha256).digest()).decode()
        given = request.headers.get("webhook-signature", "").split(" ")
        return any(hmac.compare_digest(one, f"v1,{right}") for one in given)

    async def _tell(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": len(self.requests),
                "applied": self.applied[-1000:],
                "owners": [[*record, owner] for record, owner in self.owners.items()],
            }
        )


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A CRM's endpoint that records what it is told.")
    parser.add_argument("--port", type=int, default=9300)
    parser.add_argument("--secret-env", default="CRM_SECRET")
    args = parser.parse_args()
    async with RecordingCrm(os.environ[args.secret_env], args.port) as crm:
        print(crm.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except KeyboardInterrupt:
        raise SystemExit(0) from None
