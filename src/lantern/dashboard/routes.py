"""How a page module says what it serves: `@page`, `@action`, `@stream`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from starlette.responses import Response

from lantern.dashboard.nav import HOME
from lantern.dashboard.view import View
from lantern.gate.auth import Scope

Kind = Literal["page", "action", "stream"]
Handler = Callable[[View], Awaitable[Response]]
Source = Callable[[View], Awaitable[AsyncIterator[bytes]]]
H = TypeVar("H", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Route:
    """One address. `account`: not for keys of named agents. `tx`: runs in a transaction."""

    path: str
    kind: Kind
    handler: Callable[[View], Awaitable[Any]]
    scope: Scope | None
    account: bool
    tx: bool


ROUTES: list[Route] = []


def page(
    path: str, scope: Scope | None = "read", *, account: bool = False, tx: bool = True
) -> Callable[[H], H]:
    """A GET that answers HTML. `path` is below /dashboard. `scope` None: without a session too."""
    return _register("page", path, (scope, account, tx))


def action(
    path: str, scope: Scope | None = "write", *, account: bool = False, tx: bool = True
) -> Callable[[H], H]:
    """A POST of a form, with the session's token; an answer of 400 and more writes nothing."""
    return _register("action", path, (scope, account, tx))


def stream(path: str, scope: Scope = "read", *, account: bool = False) -> Callable[[H], H]:
    """A GET that answers server-sent events; it holds no connection to the database."""
    return _register("stream", path, (scope, account, False))


def _register(kind: Kind, path: str, what: tuple[Scope | None, bool, bool]) -> Callable[[H], H]:
    def register(handler: H) -> H:
        ROUTES.append(Route(f"{HOME}{path}", kind, handler, *what))
        return handler

    return register
