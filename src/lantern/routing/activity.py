"""Who is active in the CRM: asked before a decision, never while it is made."""

from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from lantern.core import clock, crm, log
from lantern.core.db import Database
from lantern.core.errors import LanternError
from lantern.gate.auth import Call
from lantern.routing import store
from lantern.routing.models import AssignRequest
from lantern.settings import RoutingSettings, Settings

PAUSE_SECONDS = 30.0  # after a question without an answer: nobody else waits for that
_silent_until: dict[int, float] = {}  # by tenant
_log = log.get(__name__)


async def before_assign(call: Call, body: bytes, settings: Settings) -> bool:
    """Whether this call pays for the pool's size; asks the CRM where that is due."""
    mode = settings.routing.charge_pool_size
    if not crm.connected(call.tenant) and b'"refresh_pool"' not in body:
        return mode == "always"
    try:
        asked = AssignRequest.model_validate_json(body)
    except ValidationError:
        return False  # the route says what is wrong with it
    if asked.refresh_pool:
        crm.get(call.tenant)  # not connected: says so before anything else
    counted = await recount(
        call.db, call.tenant, asked.pool, settings.routing, force=asked.refresh_pool
    )
    return mode == "always" or (mode == "live" and counted)


async def recount(
    db: Database, tenant: int, pool_name: str, settings: RoutingSettings, *, force: bool = False
) -> bool:
    """Ask the CRM who of a pool is active, if what is known is old; False: it was not asked.

    Without `force` a CRM that does not answer leaves what was known, and is left alone for a while.
    """
    if not force and clock.monotonic() < _silent_until.get(tenant, 0.0):
        return False
    async with db.transaction(tenant) as tx:
        pool = await store.pool(tx, pool_name)
        fresh = clock.now() - timedelta(minutes=settings.activity_minutes)
        if pool is None or not (
            force or pool["activity_at"] is None or pool["activity_at"] < fresh
        ):
            return False
        users = await store.members(tx, pool["id"])
    try:
        active = await crm.get(tenant).active_users(tenant, users)
    except LanternError as error:
        _silent_until[tenant] = clock.monotonic() + PAUSE_SECONDS
        if force:
            raise
        _log.warning("routing.activity_unknown", error=type(error).__name__)
        return False
    _silent_until.pop(tenant, None)
    await _remember(db, tenant, pool["id"], active)
    return True


async def _remember(db: Database, tenant: int, pool_id: str, active: dict[str, Any]) -> None:
    async with db.transaction(tenant) as tx:
        await store.remember_activity(tx, pool_id, active)
