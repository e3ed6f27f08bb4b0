"""Pools: who takes turns, under which policy; changed as a whole, by member, or by a file.

URLs: /v1/routing/pools. Tables: routing_pools, routing_members, routing_rotations.
"""

from lantern.routing.pools.fairness import Fairness, Share, fairness
from lantern.routing.pools.models import (
    MemberChange,
    Policy,
    PoolChange,
    PoolCreate,
    Simulation,
)
from lantern.routing.pools.service import (
    FileRules,
    change_member,
    change_policy,
    create,
    delete,
    import_members,
    members_in,
    names,
    put,
    remove_member,
    show,
    simulate,
    table,
)

__all__ = [
    "Fairness",
    "FileRules",
    "MemberChange",
    "Policy",
    "PoolChange",
    "PoolCreate",
    "Share",
    "Simulation",
    "change_member",
    "change_policy",
    "create",
    "delete",
    "fairness",
    "import_members",
    "members_in",
    "names",
    "put",
    "remove_member",
    "show",
    "simulate",
    "table",
]
