"""Every operation as a value: what to send and how to read the answer. No input, no output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ._errors import UnexpectedAnswer
from ._models import Agent, AgentChanges, AgentFields, ApiKey, NewApiKey, Page, Run

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request to be, with the reader of its answer; `parse` raises ValueError at a wrong body."""

    method: str
    path: str
    parse: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    params: Mapping[str, str | int] | None = None
    headers: Mapping[str, str] | None = None

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does what sending it once does."""
        return self.method in ("GET", "PUT", "DELETE") or "Idempotency-Key" in (self.headers or ())

    def read(self, response: httpx.Response) -> T:
        """The answer, typed; UnexpectedAnswer when it is not what the contract says."""
        try:
            return self.parse(response.json() if response.content else None)
        except ValueError as problem:
            said = f"{self.method} {self.path} answered {response.status_code} with another body"
            raise UnexpectedAnswer(f"{said} than expected: {problem}") from problem


def once(key: str | None = None) -> dict[str, str]:
    """The header that makes a POST safe to repeat; the server keeps the key for 24 h."""
    if key is None:
        key = str(uuid4())
    elif not (key and key.isascii() and key.isprintable()):
        raise ValueError("an idempotency key is made of printable ASCII characters")
    return {"Idempotency-Key": key}


def create_agent(name: str, fields: AgentFields) -> Call[Agent]:
    """POST /v1/agents."""
    body = _jsonable({"name": name, **fields})
    return Call("POST", "/v1/agents", Agent.model_validate, body, headers=once())


def list_agents(page: int, per_page: int) -> Call[Page[Agent]]:
    """GET /v1/agents, one page."""
    params = {"page": page, "per_page": per_page}
    return Call("GET", "/v1/agents", Page[Agent].model_validate, params=params)


def get_agent(name: str) -> Call[Agent]:
    """GET /v1/agents/{name}."""
    return Call("GET", _path("agents", name), Agent.model_validate)


def update_agent(name: str, changes: AgentChanges) -> Call[Agent]:
    """PATCH /v1/agents/{name}."""
    return Call("PATCH", _path("agents", name), Agent.model_validate, _jsonable({**changes}))


def delete_agent(name: str) -> Call[None]:
    """DELETE /v1/agents/{name}."""
    return Call("DELETE", _path("agents", name), _nothing)


def create_run(
    agent: str,
    input: Mapping[str, Any],
    idempotency_key: str | None,
    labels: Mapping[str, str] | None,
) -> Call[Run]:
    """POST /v1/agents/{name}/runs, always with an idempotency key."""
    body = {"input": input} if labels is None else {"input": input, "labels": labels}
    path = _path("agents", agent, "runs")
    return Call("POST", path, Run.model_validate, _jsonable(body), headers=once(idempotency_key))


def list_runs(agent: str, status: str | None, page: int, per_page: int) -> Call[Page[Run]]:
    """GET /v1/agents/{name}/runs, one page."""
    params: dict[str, str | int] = {"page": page, "per_page": per_page}
    if status is not None:
        params["status"] = status
    return Call("GET", _path("agents", agent, "runs"), Page[Run].model_validate, params=params)


def get_run(run_id: str) -> Call[Run]:
    """GET /v1/runs/{run_id}."""
    return Call("GET", _path("runs", run_id), Run.model_validate)


def cancel_run(run_id: str, reason: str | None) -> Call[Run]:
    """POST /v1/runs/{run_id}/cancel."""
    body = None if reason is None else {"reason": reason}
    return Call("POST", _path("runs", run_id, "cancel"), Run.model_validate, body, headers=once())


def stream_run(run_id: str, after: int) -> Call[None]:
    """GET /v1/runs/{run_id}/stream, the events behind `after`."""
    # `identity`: a proxy that compresses would hold tokens back until its block is full.
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if after > 0:
        headers["Last-Event-ID"] = str(after)
    return Call("GET", _path("runs", run_id, "stream"), _nothing, headers=headers)


def create_key(
    name: str,
    scopes: Sequence[str] | None,
    agents: Sequence[str] | None,
    expires_at: datetime | None,
) -> Call[NewApiKey]:
    """POST /v1/api-keys; without an idempotency key, as a replayed answer would lack the key."""
    given = {"scopes": scopes, "agents": agents, "expires_at": expires_at}
    body = {"name": name, **{field: value for field, value in given.items() if value is not None}}
    return Call("POST", "/v1/api-keys", NewApiKey.model_validate, _jsonable(body))


def list_keys(page: int, per_page: int) -> Call[Page[ApiKey]]:
    """GET /v1/api-keys, one page."""
    params = {"page": page, "per_page": per_page}
    return Call("GET", "/v1/api-keys", Page[ApiKey].model_validate, params=params)


def delete_key(key_id: str) -> Call[None]:
    """DELETE /v1/api-keys/{id}."""
    return Call("DELETE", _path("api-keys", key_id), _nothing)


def _path(*segments: str) -> str:
    for segment in segments:
        if segment in ("", ".", ".."):  # these would name another resource than was meant
            raise ValueError(f"not a name or an id: {segment!r}")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def _jsonable(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body in JSON's types; of a model only what was set, so the server's defaults hold."""
    return {
        name: value.model_dump(mode="json", exclude_unset=True)
        if isinstance(value, BaseModel)
        else to_jsonable_python(value)
        for name, value in body.items()
    }


def _nothing(_: Any) -> None:
    return None
