"""The daily clean-up, the checkpoints behind it, and the sealer of this node."""

import asyncio
from datetime import timedelta

from lantern.core import clock, jobs, log, timers
from lantern.core.bus import TROUBLE
from lantern.core.db import Database, Tx
from lantern.gate import route_log, seals
from lantern.logs import service, signing, store, verify

CHECKPOINT_SEALS = 20_000  # that one checkpoint replaces: they are checked first, in one go
LOOKS = 2  # of the sealer a second
_log = log.get(__name__)


async def schedule(tx: Tx) -> None:
    """At every start: the months ahead, and the timer of all who have none of their own."""
    await route_log.make_months(tx)
    await timers.every(tx, service.CRON, service.JOB)


@jobs.job(service.JOB)
async def clean_up(db: Database, tenant: int | None = None) -> None:
    """Remove what is over its time: of one tenant, or of all without a schedule of their own."""
    if tenant is not None:
        await clean_tenant(db, tenant)
        return
    async with db.transaction() as tx:
        await route_log.make_months(tx)
        tenants = await seals.tenants_to_clean(tx)
    failed: list[Exception] = []
    for one in tenants:
        try:
            await clean_tenant(db, one)
        except Exception as error:
            _log.exception("logs.cleanup_failed", tenant=one)
            failed.append(error)
    async with db.transaction() as tx:
        dropped = await route_log.drop_months(tx)
    _log.info("logs.cleaned", tenants=len(tenants), failed=len(failed), dropped=dropped)
    if failed:
        raise failed[0]


async def clean_tenant(db: Database, tenant: int) -> int:
    """Batches that hold no lock for long, then a checkpoint where one is due; rows removed."""
    keys, now, rows = signing.keys(), clock.now(), 0
    more = True
    while more:
        async with db.transaction(tenant) as tx:
            kept = await service.policy(tx)
            removed = await service.expire(tx, tenant, keys, kept, now)
            rows += sum(removed.values())
            more = sum(removed.values()) == service.BATCH
            if not more:
                await store.set_cleaned(tx, now, rows)
    while await checkpoint(db, tenant):
        pass
    return rows


async def checkpoint(db: Database, tenant: int) -> bool:
    """Put a signed checkpoint in the place of seals whose rows are all gone, if they hold."""
    keys = signing.keys()
    async with db.reading(tenant) as tx:
        longest = (await service.policy(tx)).longest
        before = clock.now() - timedelta(days=longest)
        upto = await store.erased_prefix(tx, before, CHECKPOINT_SEALS)
        if upto is None:
            return False
        last = await store.last_checkpoint(tx)
        report = await verify.walk(
            tx, tenant, keys, limit=upto - (last["chain_seq"] if last else 0)
        )
    if report.problem:
        # A checkpoint would hide it.
        _log.error("logs.chain_broken", tenant=tenant, kind=report.problem.kind)
        return False
    place, link = report.head
    at = clock.now()
    signature = keys.sign(verify.checkpoint(tenant, place, link, at))
    async with db.transaction(tenant) as tx:
        await store.add_checkpoint(tx, (place, link, at, keys.key_id, signature))
        await seals.cut(tx, tenant, place, CHECKPOINT_SEALS)
    return True


class Sealer:
    """Seals what was committed, on a task of its own: the node's loop waits for nothing."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._task: asyncio.Task[None] | None = None

    async def tend(self) -> None:
        """A hook for `Node.each_second`."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._second(), name="logs.sealer")

    async def close(self) -> None:
        """Stop; what waits is sealed by another node or at the next start."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _second(self) -> None:
        try:
            for look in range(LOOKS):
                if look:
                    await asyncio.sleep(1 / LOOKS)
                await seals.seal(self.db)
        except TROUBLE as error:
            _log.warning("logs.sealer_failed", error=type(error).__name__)
