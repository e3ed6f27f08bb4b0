"""Routing: pools of people, whose turn it is, and every assignment with what it was made from.

URLs: /v1/routing. Tables: routing_pools, routing_members, routing_rotations, routing_assignments.
"""

from lantern.routing import pools, sla  # sla registers its timer and its hook
from lantern.routing.explanation import explain
from lantern.routing.models import AssignRequest
from lantern.routing.price import announce
from lantern.routing.service import assign, told

__all__ = ["AssignRequest", "announce", "assign", "explain", "pools", "sla", "told"]
