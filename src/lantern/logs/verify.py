"""Walking the chain: the first link that does not hold, and what policy erased.

Everything is computed here from what is stored, nothing by functions of the database.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from lantern.core import clock
from lantern.core.db import Row, Tx
from lantern.logs import digest, signing, store
from lantern.logs.signing import Keys

_ID, _DIGEST, _LINK, _SALT, _ROW_DIGEST, _FIELDS = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Problem:
    """The first thing that does not hold. `chain_seq` is None where it is about no seal."""

    kind: str
    message: str
    chain_seq: int | None = None
    row_id: int | None = None


@dataclass
class Report:
    """What a walk has found."""

    checked: int = 0  # seals
    rows: int = 0  # of them with their row
    erased: Counter[str] = field(default_factory=Counter)  # the others, by kind
    waiting: int = 0  # rows that are not sealed yet
    first: int = 1  # the first place looked at
    head: tuple[int, bytes] = (0, digest.START)  # the last place that holds
    checkpoint: Row | None = None
    complete: bool = False  # to the end of the chain
    problem: Problem | None = None


class Erased:
    """Places that a signed erasure names."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int, str]] = []  # from, to (outside), kind
        self.doubtful: list[tuple[int, int, Problem]] = []

    @classmethod
    async def load(cls, tx: Tx, tenant: int, keys: Keys, after: int) -> "Erased":
        """Read and check every erasure; those of places up to `after` are of no use."""
        found = cls()
        async with aclosing(store.erasures(tx)) as pages:
            async for page in pages:
                for row in page:
                    found._add(tenant, row, keys, after)
        found.spans.sort()
        return found

    def _add(self, tenant: int, row: tuple[Any, ...], keys: Keys, after: int) -> None:
        erasure_id, at, kind, detail, ranges, rows, key_id, signature = row
        said = erasure(tenant, erasure_id, (at, kind, detail), (ranges, rows))
        problem = _signature_problem(keys, key_id, said, signature, f"Erasure {erasure_id}")
        for start, end in spans(ranges):
            if end > after + 1 and problem is None:
                self.spans.append((start, end, kind))
            elif end > after + 1 and problem is not None:
                self.doubtful.append((start, end, problem))

    def kind(self, chain_seq: int) -> str | None:
        """Why the row of that place is gone; None: nobody says why."""
        place = bisect_right(self.spans, (chain_seq, 1 << 63, "")) - 1
        if place >= 0 and self.spans[place][0] <= chain_seq < self.spans[place][1]:
            return self.spans[place][2]
        return None

    def missing(self, chain_seq: int, row_id: int) -> Problem:
        """The problem of a row that is gone without a valid word about it."""
        for start, end, why in self.doubtful:
            if start <= chain_seq < end:
                return Problem(why.kind, why.message, chain_seq, row_id)
        return Problem("row_missing", "The row is gone and no erasure names it", chain_seq, row_id)


def spans(ranges: str) -> list[tuple[int, int]]:
    """`{[1,5),[7,8)}` as pairs."""
    parts = ranges.strip("{}").replace("[", "").split("),")
    pairs = (part.strip(")").split(",") for part in parts if part)
    return [(int(start), int(end)) for start, end in pairs]


def erasure(tenant: int, name: str, what: tuple[Any, str, str], places: tuple[str, int]) -> bytes:
    """What is signed of an erasure: `what` is its moment, kind, detail; `places` ranges and count."""
    at, kind, detail = what
    fields = {"tenant": tenant, "id": name, "at": clock.to_micros(at), "kind": kind}
    return signing.message(
        "erasure", {**fields, "detail": detail, "ranges": places[0], "count": places[1]}
    )


def checkpoint(tenant: int, chain_seq: int, link: bytes, at: Any) -> bytes:
    """What is signed of a checkpoint."""
    fields = {"tenant": tenant, "chain_seq": chain_seq, "link": link.hex()}
    return signing.message("checkpoint", {**fields, "at": clock.to_micros(at)})


def _signature_problem(
    keys: Keys, key_id: str, said: bytes, signature: bytes, name: str
) -> Problem | None:
    if not keys.knows(key_id):
        hint = f"{name} is signed by {key_id}, which is not in logs.trusted_keys"
        return Problem("unknown_key", hint)
    if not keys.verify(key_id, said, signature):
        return Problem("signature", f"The signature of {name[0].lower()}{name[1:]} does not hold")
    return None


async def walk(tx: Tx, tenant: int, keys: Keys, after: int = 0, limit: int | None = None) -> Report:
    """Check seals and rows in a snapshot, from the last checkpoint or behind the place `after`."""
    report = Report()
    start = await _start(tx, tenant, keys, report, after)
    if report.problem:
        return report
    erased = await Erased.load(tx, tenant, keys, report.head[0])
    async with aclosing(await store.walk(tx, report.head[0], limit)) as pages:
        await _check(pages, erased, report)
    if report.problem and report.problem.kind == "row_missing":
        await _refine(tx, report)
    if report.problem is None:
        await _check_end(tx, report, whole=start == report.first)
    return report


async def _start(tx: Tx, tenant: int, keys: Keys, report: Report, after: int) -> int:
    """Where the walk begins; the first place that the chain still has."""
    report.checkpoint = row = await store.last_checkpoint(tx)
    if row is not None:
        said = checkpoint(tenant, row["chain_seq"], row["link"], row["at"])
        name = f"Checkpoint {row['chain_seq']}"
        report.problem = _signature_problem(keys, row["key_id"], said, row["signature"], name)
        report.head = (row["chain_seq"], row["link"])
    first = report.head[0] + 1
    if after >= first:
        link = await store.link_at(tx, after)
        if link is None:
            report.problem = Problem("seal_missing", "There is no such seal", after)
        else:
            report.head = (after, link)
    report.first = report.head[0] + 1
    return first


async def _check(
    pages: AsyncGenerator[list[tuple[Any, ...]], None], erased: Erased, report: Report
) -> None:
    chain_seq, head = report.head
    async for page in pages:
        for seal in page:
            chain_seq += 1
            report.problem = _problem(seal, chain_seq, head)
            if report.problem is None and seal[_SALT] is None:
                kind = erased.kind(chain_seq)
                if kind is None:
                    report.problem = erased.missing(chain_seq, seal[_ID])
                else:
                    report.erased[kind] += 1
            if report.problem:
                return
            report.rows += seal[_SALT] is not None
            report.checked += 1
            head = bytes(seal[_LINK])
            report.head = (chain_seq, head)


def _problem(seal: tuple[Any, ...], chain_seq: int, head: bytes) -> Problem | None:
    row_id = seal[_ID]
    if seal[0] != chain_seq:
        return Problem("seal_missing", f"The seal {chain_seq} is missing", chain_seq)
    known = None
    if seal[_SALT] is not None:
        known = digest.digest(seal[_FIELDS:], seal[_SALT])
    if digest.link(head, chain_seq, row_id, seal[_DIGEST]) != seal[_LINK]:
        if known and digest.link(head, chain_seq, row_id, known) == seal[_LINK]:
            return Problem("digest", "The digest of the seal was changed", chain_seq, row_id)
        return Problem("link", "The link does not follow from the one before", chain_seq, row_id)
    if known is None:
        return None
    if known != seal[_DIGEST]:
        return Problem("payload", "The row is not what was sealed", chain_seq, row_id)
    if seal[_ROW_DIGEST] != known:
        return Problem("digest", "The digest beside the row was changed", chain_seq, row_id)
    return None


async def _refine(tx: Tx, report: Report) -> None:
    problem = report.problem
    assert problem is not None
    assert problem.row_id is not None
    if await store.moved(tx, problem.row_id):
        message = "The row is not what was sealed: it stands under another moment"
        report.problem = Problem("payload", message, problem.chain_seq, problem.row_id)


async def _check_end(tx: Tx, report: Report, *, whole: bool) -> None:
    """The chain ends where it says, and no row is outside it."""
    chain = await store.chain(tx)
    end = (chain["chain_seq"], bytes(chain["link"])) if chain else (0, digest.START)
    if report.head[0] < end[0]:
        following = report.head[0] + 1
        if await store.link_at(tx, following) is None:
            text = f"The seal {following} is missing; the chain ends at {end[0]}"
            report.problem = Problem("seal_missing", text, following)
        return
    report.complete = True
    if report.head != end:
        report.problem = Problem("head", "The end of the chain was changed", report.head[0])
        return
    total, report.waiting = await store.counts(tx)
    if whole and total - report.waiting > report.rows:
        row_id = await store.unchained(tx)
        message = "The row is in no seal and waits for none"
        report.problem = Problem("row_unchained", message, None, row_id)
