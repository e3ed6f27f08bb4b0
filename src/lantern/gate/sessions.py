"""Who sits at the dashboard: one-time links, sessions in a cookie, tokens against forged writes.

A session is the operator's (by a link that only the command line makes) or an API key's, and then
it reaches as far as the key and ends with it. Only hashes are stored.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass

from lantern.core import ids
from lantern.core.db import Database, Row, Tx
from lantern.gate import audit
from lantern.gate.auth import Call, key_hash

_SALT = 16  # characters


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser. `raw` is the cookie's value: never shown, never logged."""

    raw: str
    roams: bool  # may go to any tenant
    tenant_name: str

    def token(self) -> str:
        """A token for this session's writes; another one each time, so that a page may be compressed."""
        salt = os.urandom(_SALT // 2).hex()
        return salt + _mac(self.raw, salt)

    def accepts(self, token: str) -> bool:
        """Whether a write's token was made by this session."""
        salt, mac = token[:_SALT], token[_SALT:]
        return hmac.compare_digest(mac.encode(), _mac(self.raw, salt).encode())


def _mac(raw: str, salt: str) -> str:
    return hmac.new(raw.encode(), salt.encode(), hashlib.sha256).hexdigest()[:32]


async def make_link(tx: Tx, tenant: int, seconds: int, *, roams: bool) -> str:
    """The secret of a one-time link, for a transaction of that tenant."""
    raw = ids.secret("lnk")
    await tx.run(
        "insert into dashboard_links (hash, tenant_id, roams, expires_at) values"
        " (%s, %s, %s, clock_timestamp() + make_interval(secs => %s))",
        (key_hash(raw), tenant, roams, seconds),
    )
    await audit.record_command(tx, tenant, "dashboard.link", "tenant", str(tenant))
    return raw


async def enter_by_link(db: Database, link: str, seconds: int) -> str | None:
    """Use a link up; the new session's secret. None: the link is unknown, used or too old."""
    raw = ids.secret("ses")
    given = (key_hash(link), key_hash(raw), seconds)
    row = await db.one("select enter_dashboard(%s, %s, %s) as entered", given)
    return raw if row and row["entered"] else None


async def enter_by_key(tx: Tx, call: Call, seconds: int) -> str:
    """A session of the key that `call` was admitted with."""
    raw = ids.secret("ses")
    await tx.run("select leave_dashboard(null)")  # those that are over their time go
    await tx.run(
        "insert into dashboard_sessions (hash, tenant_id, key_id, expires_at) values"
        " (%s, %s, %s, clock_timestamp() + make_interval(secs => %s))",
        (key_hash(raw), call.tenant, call.key_id, seconds),
    )
    await audit.record(call, "dashboard.sign_in", "key", call.key_id)
    return raw


async def admit(call: Call, raw: str) -> Session:
    """Session, scope and limit in one statement. Raises Unauthorized, Forbidden or RateLimited."""
    row = await call.db.one(
        "select (s.admission).*, s.roams, s.tenant_name from admit_session(%s, %s::jsonb) s",
        (key_hash(raw), call.door.json()),
    )
    call.let_in(row or {})
    assert row is not None
    return Session(raw, bool(row["roams"]), row["tenant_name"])


async def move(db: Database, session: Session, tenant: int) -> bool:
    """Go to another tenant; False where there is none, or the session may not."""
    row = await db.one("select move_session(%s, %s) as moved", (key_hash(session.raw), tenant))
    return bool(row and row["moved"])


async def leave(db: Database, raw: str) -> None:
    """Sign out."""
    await db.run("select leave_dashboard(%s)", (key_hash(raw),))


async def tenants(db: Database) -> list[Row]:
    """Every tenant, for a session that may go to any: id, name, plan, created_at, balance, keys."""
    return await db.all("select * from list_tenants()")
