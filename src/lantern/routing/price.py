"""What an assignment would cost: how a request maps to the items of the tariff."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from lantern.core import crm
from lantern.core.errors import BadRequest
from lantern.gate import tariff
from lantern.routing.models import AssignRequest
from lantern.settings import RoutingSettings

OPERATION = "routing.assign"
_SAMPLE = {"object": "lead", "sf_id": "any", "pool": "any"}


def announce(settings: RoutingSettings) -> None:
    """Make the operation known to estimates. A repeated call and a refusal are free all the same."""

    def items(request: Mapping[str, Any]) -> Mapping[str, int]:
        try:
            asked = AssignRequest.model_validate(_SAMPLE | dict(request))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise BadRequest.field(f"request.{name}", first["msg"]) from None
        recount = settings.charge_pool_size == "live" and (asked.refresh_pool or crm.connected(0))
        size = settings.charge_pool_size == "always" or recount
        return {"assign": 1, "reset": int(asked.reset_rules is not None), "pool_size": int(size)}

    tariff.register(OPERATION, "Give a record to the next member of a pool.", items)
