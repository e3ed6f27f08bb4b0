"""The port to a CRM: what this server asks of one, whichever it is, and how owners get there.

Routing promises an owner in its own transaction (topic `crm.owner` of the outbox, the id is the
assignment's); the write follows after the commit. What the CRM refuses for good comes back to
routing through `on_refused`.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

from lantern.core import log, outbox
from lantern.core.db import Tx, facts
from lantern.core.errors import Conflict

TOPIC = "crm.owner"
_log = log.get(__name__)


class NotConnected(Conflict):
    """No CRM is connected; the message names the setting."""

    code = "not_connected"

    def __init__(self) -> None:
        super().__init__("No CRM is connected: set [crm] url")


class Refused(Exception):
    """The CRM will never take this owner for this record."""

    why: ClassVar[str]

    def __init__(self) -> None:
        super().__init__(self.why)


class RecordGone(Refused):
    """The record was deleted."""

    why = "record_gone"


class OwnerInactive(Refused):
    """The user may not own records."""

    why = "owner_inactive"


@dataclass(frozen=True, slots=True)
class OwnerWrite:
    """A record's new owner. `key` is the assignment's id, by which the CRM knows it the second time.

    `sequence` grows with every write: one that comes after a higher one of its record is late.
    """

    object: str
    record_id: str
    owner_id: str
    key: str
    sequence: int


class Crm(Protocol):
    """A CRM. Both calls may raise `Upstream`, `UpstreamTimeout` or `outbox.Retry`."""

    async def set_owner(self, tenant: int, write: OwnerWrite) -> None:
        """Make it so, once. Raises `RecordGone`, `OwnerInactive`, `outbox.Final`."""

    async def active_users(self, tenant: int, user_ids: Sequence[str]) -> dict[str, bool]:
        """Who of them may own records; a user it does not know is missing."""


Hook = Callable[[Tx, int, str, str], Awaitable[None]]
_crm: Crm | None = None
_elsewhere = False
_hooks: list[Hook] = []


def use(crm: Crm | None) -> None:
    """Connect this process to a CRM, for all tenants; None disconnects."""
    global _crm
    _crm = crm


@contextmanager
def served_elsewhere(*, yes: bool) -> Iterator[None]:
    """Whether nodes have a CRM that this process, a command, does not speak to itself."""
    global _elsewhere
    _elsewhere = yes
    try:
        yield
    finally:
        _elsewhere = False


def connected(tenant: int) -> bool:
    """Whether owners of this tenant are written anywhere."""
    return _elsewhere or _crm is not None


def get(tenant: int) -> Crm:
    """The tenant's CRM. Raises `NotConnected`."""
    if _crm is None:
        raise NotConnected
    return _crm


def on_refused(hook: Hook) -> Hook:
    """Call `hook(tx, tenant, assignment_id, why)` in a transaction of its own, perhaps twice.

    `why`: `record_gone` or `owner_inactive`. While it raises, the write stays open.
    """
    _hooks.append(hook)
    return hook


def _ready() -> bool:
    return _crm is not None


@outbox.topic(TOPIC, latest_wins=True, ready=_ready)
async def _write_owner(delivery: outbox.Delivery) -> None:
    given = delivery.payload
    if _crm is None:  # disconnected meanwhile: another node may still have it
        raise outbox.Retry("no CRM is connected")
    write = OwnerWrite(
        given["object"], given["record_id"], given["owner_id"], delivery.id, delivery.seq
    )
    try:
        await _crm.set_owner(delivery.tenant, write)
    except Refused as refused:
        await _tell(delivery, refused.why)
        raise outbox.Final(refused.why) from None


async def _tell(delivery: outbox.Delivery, why: str) -> None:
    for hook in _hooks:
        try:
            async with delivery.db.transaction(delivery.tenant) as tx:
                await hook(tx, delivery.tenant, delivery.id, why)
        except Exception as error:
            _log.warning("crm.hook_failed", error=type(error).__name__, **facts(error))
            # Were the row closed now, nobody would hear of the refusal again.
            raise outbox.Retry(f"{why}, and nobody could be told") from error
