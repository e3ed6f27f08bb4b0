"""Pools: who takes turns, under which policy; changed as a whole, by member, or by a file.

URLs: /v1/routing/pools. Tables: routing_pools, routing_members, routing_rotations.
"""
