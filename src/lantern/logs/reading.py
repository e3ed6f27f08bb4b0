"""The log as people look at it: rows by page, the state of the chain, a check of its newest part."""

from typing import Any

import orjson

from lantern.core import clock, lookback
from lantern.core.db import Tx
from lantern.logs import service, signing, store, verify
from lantern.logs.query import Query


async def browse(tx: Tx, query: Query, after: str | None, limit: int) -> lookback.Page:
    """A page of the rows asked for, newest first; `diff` is read, `chain_seq` is their place."""
    page = await lookback.page(tx, store.newest(query), after, limit)
    for row in page.rows:
        row["diff"] = None if row["diff"] is None else orjson.loads(row["diff"])
    return page


async def chain_state(tx: Tx) -> dict[str, Any]:
    """Where the chain ends, what waits for it, its last checkpoint."""
    end, checkpoint = await store.chain(tx), await store.last_checkpoint(tx)
    return {
        "chain_seq": end["chain_seq"] if end else 0,
        "link": bytes(end["link"]).hex() if end else None,
        "waiting": await service.unsealed(tx),
        "checkpoint": checkpoint
        and {"chain_seq": checkpoint["chain_seq"], "at": clock.iso(checkpoint["at"])},
    }


async def check_newest(tx: Tx, tenant: int, most: int) -> dict[str, Any]:
    """What a walk over the newest `most` seals has found."""
    end = await store.chain(tx)
    after = max(0, end["chain_seq"] - most) if end else 0
    return service.shown(await verify.walk(tx, tenant, signing.keys(), after, most))
