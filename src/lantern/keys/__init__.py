"""API keys: who may call, in which scope, for which agents.

URLs: /v1/api-keys. Tables: api_keys (checked by gate, see migrations).
"""

from lantern.keys.models import KeyCreate
from lantern.keys.service import (
    OperatorKey,
    create,
    create_as_operator,
    restore,
    revoke,
    revoke_as_operator,
    table,
)

__all__ = [
    "KeyCreate",
    "OperatorKey",
    "create",
    "create_as_operator",
    "restore",
    "revoke",
    "revoke_as_operator",
    "table",
]
