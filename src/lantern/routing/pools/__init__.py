"""Pools: who takes turns, under which policy; changed as a whole, by member, or by a file.

URLs: /v1/routing/pools. Tables: routing_pools, routing_members, routing_rotations.
"""

from lantern.routing.pools.models import PoolChange, PoolCreate, Simulation
from lantern.routing.pools.service import (
    FileRules,
    create,
    delete,
    import_members,
    put,
    show,
    simulate,
    table,
)

__all__ = [
    "FileRules",
    "PoolChange",
    "PoolCreate",
    "Simulation",
    "create",
    "delete",
    "import_members",
    "put",
    "show",
    "simulate",
    "table",
]
