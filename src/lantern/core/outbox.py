"""The outbox: effects outside Postgres that a transaction promises and a node keeps.

`add` promises, in the caller's transaction: rolled back, it never was. Some node delivers it, at
least once, and the receiver knows a second time by the id. Rows of one order key go one after the
other; in a topic where the latest wins, an older row never goes after a newer one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from lantern.core.db import Database, Row, Tx

KEEP_DAYS = 30


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try of one row. `seq` grows with every row; `age` is seconds since the first try."""

    tenant: int
    topic: str
    id: str
    seq: int
    payload: dict[str, Any]
    attempt: int
    age: float
    db: Database


class Retry(Exception):
    """Not now. `after`: seconds the receiver asks for. The reason names no person, no secret."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Final(Exception):
    """Never. The reason is kept with the row: no person, no secret."""


Deliver = Callable[[Delivery], Awaitable[None]]
D = TypeVar("D", bound=Deliver)


@dataclass(frozen=True, slots=True)
class Topic:
    """How rows of one topic are delivered; `ready` tells whether this process can."""

    deliver: Deliver
    latest_wins: bool
    ready: Callable[[], bool]


_topics: dict[str, Topic] = {}


def topic(
    name: str, *, latest_wins: bool = False, ready: Callable[[], bool] = lambda: True
) -> Callable[[D], D]:
    """Register `async def deliver(delivery)`.

    It returns when the receiver has it. `Final`, and an error of ours below 500, give up; anything
    else is tried again, for a day. `latest_wins`: only the newest row of an order key matters.
    """

    def register(function: D) -> D:
        _topics[name] = Topic(function, latest_wins, ready)
        return function

    return register


def ready_topics() -> dict[str, Topic]:
    """What this process can deliver now."""
    return {name: found for name, found in _topics.items() if found.ready()}


async def add(
    tx: Tx, tenant: int, topic: str, id: str, order_key: str, payload: dict[str, Any]
) -> None:
    """Promise an effect. The same topic and id again change nothing."""
    await tx.run(
        "select outbox_add(%s, %s, %s, %s, %s::jsonb)",
        (tenant, topic, id, order_key, orjson.dumps(payload).decode()),
    )


async def state(tx: Tx, topic: str, id: str) -> str | None:
    """`pending`, `done`, `failed` or `superseded`; None: never promised, or over its retention."""
    row = await tx.one("select state from outbox where topic = %s and id = %s", (topic, id))
    return str(row["state"]) if row else None


async def waiting(tx: Tx) -> Row:
    """The tenant's promises: `pending`, `oldest` of these, `failed` in the last day, `error` of the newest."""
    row = await tx.one(
        "select count(*) as pending,"
        " min(created_at) as oldest,"
        " (array_agg(error order by created_at desc) filter (where error is not null))[1] as error"
        " from (select created_at, error from outbox where tenant_id = tenant()"
        "  and state = 'pending' limit 10001) p"
    )
    failed = await tx.one(
        "select count(*) as n from (select 1 from outbox where tenant_id = tenant()"
        " and state = 'failed' and finished_at > clock_timestamp() - interval '1 day'"
        " limit 10001) f"
    )
    return {**(row or {}), "failed": failed["n"] if failed else 0}


async def withdraw(tx: Tx, topic: str, id: str) -> None:
    """Take a promise back that nobody is delivering yet: what it told of is no longer so."""
    await tx.one("select outbox_withdraw(%s, %s)", (topic, id))


async def clean(db: Database, days: int, batch: int) -> int:
    """Delete up to `batch` rows that ended more than `days` ago; how many."""
    row = await db.one("select outbox_clean(make_interval(days => %s), %s) as gone", (days, batch))
    return int(row["gone"]) if row else 0
