"""Who calls: a bearer key, checked by one autocommitted statement together with its limit."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
from fastapi import Depends, Request

from lantern.core import clock, ids
from lantern.core.db import Database, Row, Tx
from lantern.core.errors import Forbidden, LanternError, RateLimited, Unauthorized

Scope = Literal["read", "write", "admin", "forms", "workflows"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin", "forms", "workflows")


def key_hash(raw: str) -> bytes:
    """What is stored of a key: it has 256 random bits, so one round of SHA-256 is enough."""
    return hashlib.sha256(raw.encode()).digest()


@dataclass(slots=True)
class Door:
    """What an admission needs to know of a request."""

    family: str
    limit: int
    plans: dict[str, int]
    scope: Scope | None
    account: bool
    address: str
    failures: int
    agent: str | None = None

    def json(self) -> str:
        """As the SQL function takes it: a name from a path may hold a NUL, jsonb may not."""
        return orjson.dumps(self).decode().replace("\\u0000", "\\ufffd")


@dataclass(slots=True)
class Call:
    """One request, as the capabilities see it."""

    request_id: str
    door: Door
    key: bytes | None
    db: Database
    tenant: int = 0
    key_id: str = ""
    scopes: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    credits: Decimal | None = None
    idempotency_key: str | None = None
    tags: dict[str, str] = field(default_factory=dict)  # of `X-Lantern-Tags`
    prepared: Any = None  # what the route's `before` came back with
    began: float = field(default_factory=clock.monotonic)
    limit_headers: dict[str, str] = field(default_factory=dict)
    admitted: bool = False
    open_tx: Tx | None = None
    after_commit: list[Callable[[], Awaitable[None] | None]] = field(default_factory=list)

    @property
    def tx(self) -> Tx:
        """The transaction of this request; the edge commits it."""
        if self.open_tx is None:
            raise RuntimeError("this route declared that it needs no transaction")
        return self.open_tx

    def covers(self, agent: str | None) -> bool:
        """Whether the key reaches runs and settings of this agent."""
        return self.agents == ["*"] or agent in self.agents

    def check_agent(self, agent: str) -> None:
        """Raise Forbidden for an agent outside the key's list."""
        if not self.covers(agent):
            raise Forbidden(f"This key does not cover agent '{agent}'")

    def let_in(self, row: Row) -> None:
        """Take over what the admission found; raises its refusal."""
        self.admitted = True
        self.limit_headers = {
            "X-RateLimit-Limit": str(row["rate_limit"]),
            "X-RateLimit-Remaining": str(row["remaining"]),
            "X-RateLimit-Reset": str(row["reset"]),
        }
        if row["tenant"] is not None:
            self.tenant = row["tenant"]
            self.key_id = row["key_id"]
            self.scopes = row["scopes"]
            self.agents = row["agents"]
            self.credits = row["credits"]
        if refusal := self._refusal(row):
            raise refusal

    def _refusal(self, row: Row) -> LanternError | None:
        match row["verdict"]:
            case "unauthorized":
                if self.key is None:
                    return Unauthorized("Missing API key: send `Authorization: Bearer lnt_...`")
                return Unauthorized("Invalid API key")
            case "rate_limited":
                return RateLimited(row["retry"])
            case "forbidden":
                return Forbidden(self._why_forbidden(row))
        return None

    def _why_forbidden(self, row: Row) -> str:
        if self.door.account and row["agents"] != ["*"]:
            return "This key covers named agents alone"
        if self.door.agent and row["agents"] != ["*"] and self.door.agent not in row["agents"]:
            return f"This key does not cover agent '{self.door.agent}'"
        return f"This key lacks the scope '{self.door.scope}'"

    async def admit(self) -> None:
        """Key, scope and limit, before anything else of the request is looked at."""
        row = await self.db.one("select * from admit(%s, %s::jsonb)", (self.key, self.door.json()))
        self.let_in(row or {})

    async def admit_ticket(self, ticket: str, run_id: str) -> None:
        """The same for a stream's one-time ticket."""
        row = await self.db.one(
            "select * from admit_ticket(%s, %s, %s::jsonb)",
            (key_hash(ticket), run_id.replace("\0", "\ufffd"), self.door.json()),
        )
        self.let_in(row or {})


def operator(db: Database, tx: Tx, tenant: int) -> Call:
    """The operator at the command line as a caller: reaches everything, counts against no limit."""
    door = Door("operator", 0, {}, None, account=True, address="", failures=0)
    call = Call(request_id=ids.new("req"), door=door, key=None, db=db, tenant=tenant)
    call.key_id, call.scopes, call.agents, call.admitted = "operator", ["admin"], ["*"], True
    call.open_tx = tx
    return call


def bearer(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The hash of the key in `Authorization: Bearer lnt_...`; None where there is no such key."""
    for name, value in headers:
        if name == b"authorization":
            kind, _, raw = value.decode("latin-1").strip().partition(" ")
            raw = raw.strip()
            return key_hash(raw) if kind.lower() == "bearer" and raw.startswith("lnt_") else None
    return None


async def _current(request: Request) -> Any:
    return request.scope["lantern.call"]


Current = Annotated[Call, Depends(_current)]
