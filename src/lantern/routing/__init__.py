"""Routing: pools of people, whose turn it is, and every assignment with what it was made from.

URLs: /v1/routing. Tables: routing_pools, routing_members, routing_rotations, routing_assignments.
"""

from lantern.routing import sla  # registers its timer and its hook
from lantern.routing.price import announce
from lantern.routing.service import assign

__all__ = ["announce", "assign", "sla"]
