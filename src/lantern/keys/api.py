"""Routes of keys: admin scope."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from lantern import keys
from lantern.core import http
from lantern.gate.auth import Current
from lantern.gate.limits import needs
from lantern.keys.models import KeyCreate, KeyList, KeyMade

router = APIRouter(tags=["keys"])


@router.post("/v1/api-keys", status_code=201, response_model=KeyMade)
@needs("admin", secrets=("raw_key",))
async def create_key(call: Current, body: KeyCreate) -> Any:
    """Create a key; `raw_key` is shown this once."""
    return http.Json(await keys.create(call, body), 201)


@router.get("/v1/api-keys", response_model=KeyList)
@needs("admin")
async def list_keys(call: Current, page: Annotated[http.Page, Depends(http.page)]) -> Any:
    """List the keys in force."""
    found, total = await keys.table(call.tx, page.per_page, page.offset, call.agents)
    return http.Json({"keys": found, "total": total, "page": page.page, "per_page": page.per_page})


@router.delete("/v1/api-keys/{key_id}", status_code=204)
@needs("admin")
async def revoke_key(call: Current, key_id: str) -> Response:
    """Revoke a key, at once and on every node."""
    await keys.revoke(call, key_id)
    return Response(status_code=204)
