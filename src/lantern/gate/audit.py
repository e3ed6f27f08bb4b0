"""What was done: one row for each change, added in the transaction of the change."""

from typing import Any

import orjson

from lantern.core.db import Tx
from lantern.gate.auth import Call


async def record(
    call: Call, action: str, kind: str, object_id: str, detail: dict[str, Any] | None = None
) -> None:
    """Add a row: who (the key), what, on which object. `detail` holds no secret and no PII."""
    await _insert(
        call.tx, call.tenant, (call.key_id, action, kind, object_id, call.request_id), detail
    )


async def record_command(
    tx: Tx,
    tenant: int,
    action: str,
    kind: str,
    object_id: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """The same for the command line, whose actor is the operator."""
    await _insert(tx, tenant, ("operator", action, kind, object_id, None), detail)


async def _insert(
    tx: Tx, tenant: int, what: tuple[str | None, ...], detail: dict[str, Any] | None
) -> None:
    await tx.run(
        "insert into audit_log (tenant_id, actor, action, object, object_id, request_id, detail)"
        " values (%s, %s, %s, %s, %s, %s, %s::jsonb)",
        (tenant, *what, orjson.dumps(detail).decode() if detail else None),
    )
