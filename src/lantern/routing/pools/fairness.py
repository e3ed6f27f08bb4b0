"""Who got how many turns, against how many were due: what a pool's newest assignments say.

Due is what the clocks allow (docs/routing.md): at each turn every member that could be picked has its
weight of the weights that could be picked. A turn that went back is nobody's.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from lantern.core.db import Row, Tx
from lantern.routing import rotation
from lantern.routing.pools import store
from lantern.routing.pools.pool import Pool
from lantern.routing.pools.service import fetch

MOST_TURNS = 1000
MOST_CELLS = 100_000  # turns times members
_RUNNING = frozenset({None, rotation.BACK_SOON, *rotation.ASIDE})  # whose clock ran on


@dataclass(frozen=True, slots=True)
class Share:
    """A member's turns: had, and due."""

    user_id: str
    name: str | None
    weight: int
    got: int
    due: float

    @property
    def off(self) -> float:
        """Turns too many; below 0 too few."""
        return self.got - self.due


@dataclass(frozen=True, slots=True)
class Fairness:
    """What was counted over: assignments `first` to `last` of today's rotation, or all of it.

    `turns` of members, and besides them `beside` the rotation (fallback, sticky, escalated), `back`
    (given back), `left` (of members that have left). `changed`: the pool was, meanwhile.
    """

    shares: list[Share]
    turns: int
    beside: int
    back: int
    left: int
    open: int
    first: int
    last: int
    since: datetime | None
    whole: bool
    changed: bool

    @property
    def counted(self) -> int:
        """Assignments that were looked at."""
        return self.turns + self.beside + self.back + self.left

    @property
    def worst(self) -> float:
        """The farthest that any member is from its due, in turns."""
        return max((abs(share.off) for share in self.shares), default=0.0)


async def fairness(tx: Tx, name: str) -> Fairness:
    """Got against due, over up to MOST_TURNS newest assignments of a pool's rotation."""
    pool = await fetch(tx, name)
    most = min(MOST_TURNS, MOST_CELLS // max(1, len(pool.members)))
    found = await store.results(tx, pool, most)
    due = _due(pool, await store.masks(tx, pool, most))
    return _told(pool, found, due, most)


def _told(pool: Pool, found: list[Row], due: dict[str, float], most: int) -> Fairness:
    got: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    users = {member.user_id for member in pool.members}
    for row in found:
        kind = row["kind"]
        if kind == "turns" and row["assigned_to"] not in users:
            kind = "left"
        kinds[kind] += row["n"]
        kinds["open"] += row["open"]
        if kind == "turns":
            got[row["assigned_to"]] += row["n"]
    return Fairness(
        [
            Share(m.user_id, m.name, m.weight, got[m.user_id], due.get(m.user_id, 0.0))
            for m in pool.members
        ],
        **{name: kinds[name] for name in ("turns", "beside", "back", "left", "open")},
        first=min((row["first"] for row in found), default=0),
        last=max((row["last"] for row in found), default=0),
        since=min((row["since"] for row in found), default=None),
        whole=sum(row["n"] for row in found) < most,
        changed=any(row["version"] < pool.version for row in found),
    )


def _due(pool: Pool, masks: list[Row]) -> dict[str, float]:
    weights = {member.user_id: member.weight for member in pool.members}
    due = dict.fromkeys(weights, 0.0)
    for row in masks:
        running = [
            user
            for user, reason in zip(row["users"], row["reasons"], strict=True)
            if reason in _RUNNING and user in weights
        ]
        part = row["n"] / max(1, sum(weights[user] for user in running))
        for user in running:
            due[user] += weights[user] * part
    return due
