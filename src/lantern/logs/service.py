"""Rules of the log: statistics, retention, erasure, the state of the chain."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from lantern.core import clock, ids, jobs, timers
from lantern.core.db import Tx
from lantern.core.errors import BadRequest
from lantern.gate import audit, route_log, seals
from lantern.gate.auth import Call
from lantern.logs import signing, store, verify
from lantern.logs.models import Grouping, RetentionSet
from lantern.logs.query import Query, ids_of
from lantern.logs.signing import Keys

DAYS = 365
CRON = "0 3 * * *"
JOB = "logs.cleanup"
BATCH = 5000
MOST_AT_ONCE = 20_000  # rows that a request removes itself; a job does the rest

_LEVELS = {0b01111: "action", 0b10111: "object", 0b11011: "pool", 0b11101: "assigned_to"}
_GROUPS: dict[str, str] = {"action": "action", "object": "object", "pool": "pool"}
_GROUPS["user"] = "assigned_to"
_DAY, _TOTAL = 0b11110, 0b11111


@dataclass(frozen=True)
class Policy:
    """How long rows are kept, and when a clean-up looks."""

    days: int = DAYS
    cron: str | None = None  # None: with everybody else's
    per_action: dict[str, int] = field(default_factory=dict)
    last_cleanup_at: datetime | None = None
    deleted_last_run: int | None = None

    @property
    def longest(self) -> int:
        """Days after which no row is left."""
        return max(self.days, *self.per_action.values(), 0)

    def cuts(self, now: datetime) -> tuple[datetime, dict[str, datetime]]:
        """Rows older than this go; by action where it has a rule of its own."""
        before = now - timedelta(days=self.days)
        return before, {a: now - timedelta(days=days) for a, days in self.per_action.items()}


async def statistics(tx: Tx, query: Query, group_by: Grouping) -> dict[str, Any]:
    """Counts by action, object, pool, user and day, and once more as a list by `group_by`."""
    total, by_day = 0, []
    by: dict[str, dict[str, int]] = {name: {} for name in _LEVELS.values()}
    for row in await store.statistics(tx, query):
        if row["level"] == _TOTAL:
            total = row["n"]
        elif row["level"] == _DAY:
            by_day.append({"date": row["day"].isoformat(), "count": row["n"]})
        elif (key := row[_LEVELS[row["level"]]]) is not None:
            by[_LEVELS[row["level"]]][key] = row["n"]
    by_day.sort(key=lambda day: day["date"])
    if group_by == "day":
        groups = [{"key": day["date"], "count": day["count"]} for day in by_day]
    else:
        groups = [{"key": key, "count": n} for key, n in by[_GROUPS[group_by]].items()]
    return {
        "from": query.period.first,
        "to": query.period.last,
        "total": total,
        "group_by": group_by,
        "groups": groups,
        **{f"by_{name}": by[column] for name, column in _GROUPS.items()},
        "by_day": by_day,
    }


# ---------------------------------------------------------------- retention
async def policy(tx: Tx) -> Policy:
    """The tenant's retention, or what everybody starts with."""
    row = await store.retention(tx)
    if row is None:
        return Policy()
    return Policy(
        row["retention_days"],
        row["cleanup_cron"],
        row["per_action"],
        row["last_cleanup_at"],
        row["deleted_last_run"],
    )


async def retention(tx: Tx) -> dict[str, Any]:
    """The retention as answers show it."""
    kept = await policy(tx)
    cron = kept.cron or CRON
    last = kept.last_cleanup_at
    return {
        "retention_days": kept.days,
        "cleanup_cron": cron,
        "per_action": {action: kept.per_action.get(action) for action in route_log.ACTIONS},
        "last_cleanup_at": clock.iso(last) if last else None,
        "next_cleanup_at": clock.iso(timers.next_fire(cron, "UTC", clock.now())),
        "deleted_last_run": kept.deleted_last_run,
    }


async def set_retention(call: Call, body: RetentionSet) -> None:
    """Change what is named. Raises BadRequest naming `cleanup_cron`."""
    kept = await policy(call.tx)
    cron = kept.cron if body.cleanup_cron is None else _checked(body.cleanup_cron)
    actions = kept.per_action
    if body.per_action is not None:
        given = body.per_action.model_dump(exclude_unset=True)
        actions = {a: d for a, d in {**actions, **given}.items() if d is not None}
    days = body.retention_days or kept.days
    await store.set_retention(call.tx, days, cron, actions)
    key = f"{JOB}:{call.tenant}"
    if cron is None:
        await timers.cancel(call.tx, key)
    else:
        await timers.every(call.tx, cron, JOB, key, args={"tenant": call.tenant})
    detail = {"retention_days": days, "cleanup_cron": cron or CRON, "per_action": actions}
    await audit.record(call, "logs.retention", "log", str(call.tenant), detail)


def _checked(cron: str) -> str | None:
    try:
        timers.next_fire(cron, "UTC", clock.now())
    except BadRequest as error:
        why = error.message.removeprefix("cron: ")
        raise BadRequest.field("cleanup_cron", why) from None
    return None if cron == CRON else cron


async def preview(tx: Tx) -> dict[str, Any]:
    """What a clean-up would remove now."""
    before, actions = (await policy(tx)).cuts(clock.now())
    found = await store.expired(tx, before, actions)
    return _cleaned(found, await store.oldest(tx, before, actions), dry_run=True)


async def clean(call: Call) -> dict[str, Any]:
    """Remove now what is over its time; what is too much for one request goes as a job."""
    now = clock.now()
    kept = await policy(call.tx)
    found: dict[str, int] = {}
    more = True
    while more and sum(found.values()) < MOST_AT_ONCE:
        removed = await expire(call.tx, call.tenant, signing.keys(), kept, now)
        found = {a: found.get(a, 0) + removed.get(a, 0) for a in {*found, *removed}}
        more = sum(removed.values()) == BATCH
    if more:
        await jobs.enqueue(call.tx, JOB, {"tenant": call.tenant}, call.request_id)
    await store.set_cleaned(call.tx, now, sum(found.values()))
    oldest = await store.oldest(call.tx, *kept.cuts(now))
    detail = {"rows": sum(found.values())}
    await audit.record(call, "logs.cleanup", "log", str(call.tenant), detail)
    dropped = await route_log.drop_months(call.tx)  # last: its lock lasts to the commit
    return {
        **_cleaned(found, oldest, dry_run=False),
        "partitions_dropped": dropped,
        "pending": more,
    }


def _cleaned(found: dict[str, int], oldest: datetime | None, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "deleted": sum(found.values()),
        "by_action": dict(sorted(found.items())),
        "oldest_kept": clock.iso(oldest) if oldest else None,
        "partitions_dropped": [],
        "pending": False,
    }


async def expire(tx: Tx, tenant: int, keys: Keys, kept: Policy, now: datetime) -> dict[str, int]:
    """Remove one batch of what is over its time, and say so signed; how many of each action."""
    before, actions = kept.cuts(now)
    removed = await seals.expire(tx, tenant, before, actions, BATCH)
    detail = {"retention_days": kept.days, "per_action": kept.per_action}
    await _record(tx, tenant, keys, ("retention", detail), removed)
    return removed.by_action


async def erase(tx: Tx, tenant: int, keys: Keys, object_ids: list[str]) -> tuple[int, list[str]]:
    """Remove every row about these records; how many, and the erasures that say so."""
    forms = [form for object_id in object_ids for form in ids_of(object_id)]
    names, rows = [], 0
    while True:
        removed = await seals.erase_objects(tx, tenant, forms, BATCH)
        # Which records they were is what shall be forgotten.
        name = await _record(tx, tenant, keys, ("subject", {"records": len(object_ids)}), removed)
        rows += removed.count
        if name:
            names.append(name)
        if removed.count < BATCH:
            return rows, names


async def erase_on_request(call: Call, object_ids: list[str]) -> dict[str, Any]:
    """`erase`, for a key."""
    rows, names = await erase(call.tx, call.tenant, signing.keys(), object_ids)
    await audit.record(call, "logs.erase", "log", ",".join(names), {"rows": rows})
    return {"deleted": rows, "erasure_ids": names}


async def _record(
    tx: Tx, tenant: int, keys: Keys, what: tuple[str, dict[str, Any]], removed: seals.Removed
) -> str | None:
    if not removed.count or removed.ranges is None:
        return None
    name, at = ids.new("erasure"), clock.now()
    kind, detail = what[0], orjson.dumps(what[1]).decode()
    said = verify.erasure(tenant, name, (at, kind, detail), (removed.ranges, removed.count))
    values = (name, at, kind, detail, removed.ranges, removed.count, keys.key_id, keys.sign(said))
    await store.add_erasure(tx, values)
    return name


# ---------------------------------------------------------------- the chain
def shown(report: verify.Report) -> dict[str, Any]:
    """What a walk has found, as answers show it."""
    problem, checkpoint = report.problem, report.checkpoint
    return {
        "intact": problem is None,
        "complete": report.complete,
        "checked": report.checked,
        "rows": report.rows,
        "erased": dict(report.erased),
        "unsealed": report.waiting,
        "first": report.first,
        "head": {"chain_seq": report.head[0], "link": report.head[1].hex()},
        "checkpoint": checkpoint
        and {
            "chain_seq": checkpoint["chain_seq"],
            "link": bytes(checkpoint["link"]).hex(),
            "at": clock.iso(checkpoint["at"]),
            "key_id": checkpoint["key_id"],
        },
        "problem": problem
        and {
            "kind": problem.kind,
            "message": problem.message,
            "chain_seq": problem.chain_seq,
            "row_id": problem.row_id,
        },
    }


async def unsealed(tx: Tx) -> int:
    """How many rows wait to be sealed, counted up to 10,001."""
    return await store.waiting(tx, 10_001)


def public_key(keys: Keys) -> dict[str, str]:
    """The key that signs, as answers show it."""
    return {
        "algorithm": "Ed25519",
        "key_id": keys.key_id,
        "public_key": signing.encode(keys.public),
    }
