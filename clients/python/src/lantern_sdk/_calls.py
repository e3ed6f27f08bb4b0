"""Every operation as a value: what to send and how to read the answer. No input, no output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
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
    again: bool | None = None  # whether it may be repeated; None: as its method and key say

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does what sending it once does."""
        if self.again is not None:
            return self.again
        return self.method in ("GET", "PUT", "DELETE") or "Idempotency-Key" in (self.headers or ())

    def read(self, response: httpx.Response) -> T:
        """The answer, typed; UnexpectedAnswer when it is not what the contract says."""
        try:
            answer = response.json() if response.content else None
            if isinstance(answer, dict):
                answer.pop("success", None)  # the status has said it
            return self.parse(answer)
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
    body = jsonable({"name": name, **fields})
    return Call("POST", "/v1/agents", Agent.model_validate, body, headers=once())


def list_agents(page: int, per_page: int) -> Call[Page[Agent]]:
    """GET /v1/agents, one page."""
    params = {"page": page, "per_page": per_page}
    return Call("GET", "/v1/agents", Page[Agent].model_validate, params=params)


def get_agent(name: str) -> Call[Agent]:
    """GET /v1/agents/{name}."""
    return Call("GET", path_of("agents", name), Agent.model_validate)


def update_agent(name: str, changes: AgentChanges) -> Call[Agent]:
    """PATCH /v1/agents/{name}."""
    return Call("PATCH", path_of("agents", name), Agent.model_validate, jsonable({**changes}))


def delete_agent(name: str) -> Call[None]:
    """DELETE /v1/agents/{name}."""
    return Call("DELETE", path_of("agents", name), nothing)


def create_run(
    agent: str,
    input: Mapping[str, Any],
    idempotency_key: str | None,
    labels: Mapping[str, str] | None,
) -> Call[Run]:
    """POST /v1/agents/{name}/runs, always with an idempotency key."""
    body = {"input": input} if labels is None else {"input": input, "labels": labels}
    path = path_of("agents", agent, "runs")
    return Call("POST", path, Run.model_validate, jsonable(body), headers=once(idempotency_key))


def list_runs(agent: str, status: str | None, page: int, per_page: int) -> Call[Page[Run]]:
    """GET /v1/agents/{name}/runs, one page."""
    params = query(status=status, page=page, per_page=per_page)
    return Call("GET", path_of("agents", agent, "runs"), Page[Run].model_validate, params=params)


def get_run(run_id: str) -> Call[Run]:
    """GET /v1/runs/{run_id}."""
    return Call("GET", path_of("runs", run_id), Run.model_validate)


def cancel_run(run_id: str, reason: str | None) -> Call[Run]:
    """POST /v1/runs/{run_id}/cancel."""
    body = None if reason is None else {"reason": reason}
    return Call("POST", path_of("runs", run_id, "cancel"), Run.model_validate, body, headers=once())


def stream_run(run_id: str, after: int) -> Call[None]:
    """GET /v1/runs/{run_id}/stream, the events behind `after`."""
    # `identity`: a proxy that compresses would hold tokens back until its block is full.
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if after > 0:
        headers["Last-Event-ID"] = str(after)
    return Call("GET", path_of("runs", run_id, "stream"), nothing, headers=headers)


def create_key(
    name: str,
    scopes: Sequence[str] | None,
    agents: Sequence[str] | None,
    expires_at: datetime | None,
) -> Call[NewApiKey]:
    """POST /v1/api-keys; without an idempotency key, as a replayed answer would lack the key."""
    body = given(name=name, scopes=scopes, agents=agents, expires_at=expires_at)
    return Call("POST", "/v1/api-keys", NewApiKey.model_validate, jsonable(body))


def list_keys(page: int, per_page: int) -> Call[Page[ApiKey]]:
    """GET /v1/api-keys, one page."""
    params = {"page": page, "per_page": per_page}
    return Call("GET", "/v1/api-keys", Page[ApiKey].model_validate, params=params)


def delete_key(key_id: str) -> Call[None]:
    """DELETE /v1/api-keys/{id}."""
    return Call("DELETE", path_of("api-keys", key_id), nothing)


def path_of(*segments: str) -> str:
    """The path of a resource; ValueError for a segment that would name another one."""
    for segment in segments:
        if segment in ("", ".", ".."):
            raise ValueError(f"not a name or an id: {segment!r}")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def jsonable(value: Any) -> Any:
    """The value in JSON's types; of a model only what was set, so the server's defaults hold."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, Mapping):
        return {name: jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return to_jsonable_python(value)


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None; `start` and `end` under the names `from` and `to`."""
    renamed = {"start": "from", "end": "to"}
    return {renamed.get(name, name): value for name, value in values.items() if value is not None}


def query(**values: Any) -> dict[str, str | int]:
    """`given`, as a query takes it: moments and days in ISO 8601, `true` and `false`."""
    return {name: _in_query(value) for name, value in given(**values).items()}


def _in_query(value: str | int | date) -> str | int:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else value


def nothing(_: Any) -> None:
    """The reader of an empty answer."""
    return
