"""Routing: pools of people, whose turn it is, and every assignment with what it was made from.

URLs: /v1/routing. Tables: routing_pools, routing_members, routing_rotations, routing_assignments.
"""

from lantern.routing import pools, sla  # sla registers its timer and its hook
from lantern.routing.activity import before_assign
from lantern.routing.explanation import explain
from lantern.routing.models import OBJECTS, AssignRequest, VoidRequest
from lantern.routing.price import announce
from lantern.routing.reading import Part, Wanted, browse, count
from lantern.routing.service import Decision, NoEligibleUser, accept, assign, told, void
from lantern.routing.store import LOOKED

__all__ = [
    "LOOKED",
    "OBJECTS",
    "AssignRequest",
    "Decision",
    "NoEligibleUser",
    "Part",
    "VoidRequest",
    "Wanted",
    "accept",
    "announce",
    "assign",
    "before_assign",
    "browse",
    "count",
    "explain",
    "pools",
    "sla",
    "told",
    "void",
]
