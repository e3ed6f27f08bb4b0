"""How often: which bucket a route uses and what its answer says of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

from starlette.types import Scope as ASGIScope

from lantern.core import http
from lantern.gate.auth import Door, Scope
from lantern.settings import LimitSettings

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
PLAN = "plan"
DASHBOARD = "dashboard"
FAMILIES = (PLAN, *http.FLAT, "batches", DASHBOARD)


@dataclass(frozen=True)
class Policy:
    """What a route declares of itself, for the edge."""

    scope: Scope | None
    stream: bool = False  # no transaction, the answer goes out as it comes
    folds: bool = False  # its own first statement admits (a hot path)
    ticket: bool = False  # `?ticket=` may stand for the key
    secrets: tuple[str, ...] = ()  # fields that a stored answer leaves out
    single: bool = False  # one statement, which is its own transaction (unless a key is claimed)
    before: Callable[[Any, bytes, Any], Awaitable[Any]] | None = None  # (call, body, settings)


def needs(scope: Scope, **options: Any) -> Callable[[Endpoint], Endpoint]:
    """Declare the scope of a route; the edge refuses routes without a declaration."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.policy = Policy(scope, **options)  # type: ignore[attr-defined]
        return endpoint

    return mark


class Doors:
    """Makes the door of each request from the settings."""

    def __init__(self, settings: LimitSettings, trusted_proxies: list[str]) -> None:
        self.settings = settings
        self.plans = {
            "personal": settings.personal,
            "team": settings.team,
            "enterprise": settings.enterprise,
        }
        self.proxies = [ip_network(text, strict=False) for text in trusted_proxies]

    def door(self, scope: ASGIScope, needed: Scope | None, agent: str | None) -> Door:
        """The door for an ASGI scope."""
        family = http.family(scope["method"], scope["path"])
        return Door(
            family=family or PLAN,
            limit=getattr(self.settings, family) if family else 0,
            plans=self.plans,
            scope=needed,
            account=family is not None,
            address=self.address(scope),
            failures=self.settings.failures,
            agent=agent,
        )

    def browser(self, scope: ASGIScope, needed: Scope | None, *, account: bool) -> Door:
        """The door for a page or an action of the dashboard; its agents are checked by the services."""
        door = self.door(scope, needed, None)
        door.family, door.limit, door.account = DASHBOARD, self.settings.dashboard, account
        return door

    def secure(self, scope: ASGIScope) -> bool:
        """Whether the browser came by TLS: to this process, or to a trusted proxy before it."""
        if scope["scheme"] == "https":
            return True
        client = scope.get("client")
        if not client or not self._trusted(client[0]):
            return False
        told = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
        return b",".join(told).rpartition(b",")[2].strip().lower() == b"https"

    def address(self, scope: ASGIScope) -> str:
        """The caller: the socket's address, or what a trusted proxy says."""
        client = scope.get("client")
        address = client[0] if client else "unknown"
        if not self.proxies or not self._trusted(address):
            return str(address)
        # The last address that is no proxy of ours: earlier ones are anybody's claim. Some proxies
        # add a header of their own instead of a value to the first, so all of them are one list.
        lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for hop in reversed(b",".join(lines).decode("latin-1").split(",")):
            if hop := hop.strip():
                address = hop
                if not self._trusted(address):
                    break
        return str(address)[:64]

    def _trusted(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self.proxies)
        except ValueError:
            return False


def credits_text(value: Decimal) -> str:
    """`1820.5`, `1000`: no trailing zeros, no exponent."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return text or "0"
