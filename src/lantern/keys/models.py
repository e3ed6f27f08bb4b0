"""What a key looks like on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from lantern.core.http import Model

Scope = Literal["read", "write", "admin", "forms", "workflows"]
AgentRef = Annotated[str, Field(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,62})$")]


def _iso(value: Any) -> Any:
    # pydantic also takes seconds since 1970, in digits too: nobody means that here.
    if not isinstance(value, str) or "-" not in value[1:]:
        raise PydanticCustomError("time", "Input should be an ISO-8601 time")
    return value


class KeyCreate(Model):
    """Body of `POST /v1/api-keys`."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=5)] = ["write"]
    agents: Annotated[list[AgentRef], Field(min_length=1, max_length=100)] = ["*"]
    expires_at: Annotated[datetime, BeforeValidator(_iso)] | None = None


class Key(BaseModel):
    """A key; never the key itself."""

    id: str
    name: str
    prefix: str
    scopes: list[Scope]
    agents: list[str]
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class KeyMade(BaseModel):
    """A new key. `raw_key` is shown this once; a replay of the request has null."""

    key: Key
    raw_key: str | None


class KeyList(BaseModel):
    """A page of keys that are not revoked."""

    keys: list[Key]
    total: int
    page: int
    per_page: int
