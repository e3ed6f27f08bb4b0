"""What nobody takes up moves on, what the CRM refuses is taken back; each once, and in step."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from parts import Tenant, clone_database, new_tenant, opened
from servers import InProcess

from lantern import credits
from lantern.core import ids, postgres, timers
from lantern.core.db import Database
from lantern.credits.models import PriceChange
from lantern.gate import ledger
from lantern.gate.auth import Call, Door
from lantern.routing import explanation, service, sla, store
from lantern.routing.models import AssignRequest
from routing.lay import lay_pool

TEAM = [{"user_id": name} for name in ("ann", "bob", "cid")]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def dsn(pg: postgres.Server) -> str:
    """A database of its own: the node of another test's server would fire the timers."""
    return clone_database(pg)


@pytest.fixture(scope="module")
async def db(dsn: str) -> AsyncIterator[Database]:
    async with opened(dsn) as database:
        yield database


class Routing:
    """A tenant's routing without HTTP: the transactions of the edge and of the machinery."""

    def __init__(self, db: Database, tenant: int) -> None:
        self.db, self.tenant = db, tenant

    def call(self) -> Call:
        door = Door("routing", 0, {}, "write", True, "127.0.0.1", 0)
        return Call(ids.new("req"), door, None, self.db, self.tenant, "key_test")

    async def assign(self, record: str = "r1", **more: Any) -> Row:
        body = AssignRequest(object="lead", sf_id=record, pool="team", **more)
        async with self.db.session() as tx:
            return (await service.assign(tx, self.call(), body, charge_size=False)).row

    async def act(self, action: Any, assignment: str, *more: Any) -> Row:
        call = self.call()
        async with self.db.transaction(self.tenant) as tx:
            call.open_tx = tx
            row: Row = await action(tx, call, assignment, *more)
        return row

    async def refused(self, assignment: str, why: str) -> None:
        async with self.db.transaction(self.tenant) as tx:
            await sla.refused(tx, self.tenant, assignment, why)

    async def late(self) -> int:
        """Nobody has taken up anything in time."""
        await self.db.run("update timers set due_at = clock_timestamp() where job = 'routing.sla'")
        return await timers.run_due(self.db)

    async def rows(
        self, sql: str = "select * from routing_assignments order by sequence"
    ) -> list[Row]:
        async with self.db.transaction(self.tenant) as tx:
            return await tx.all(sql)

    async def story(self) -> list[tuple[str, str, str]]:
        """Owner, method and status of each assignment, in order; each explains itself."""
        rows = await self.rows()
        assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
        for row in rows:
            assert explanation.recompute(row) == row["assigned_to"], row
        return [(row["assigned_to"], row["method"], row["status"]) for row in rows]

    async def timers(self) -> int:
        return len(await self.rows("select key from timers where job = 'routing.sla'"))

    async def turns(self) -> list[int]:
        turns: list[int] = (await self.rows("select turns from routing_rotations"))[0]["turns"]
        return turns

    async def audited(self, action: str) -> int:
        return len(await self.rows(f"select id from audit_log where action = '{action}'"))


@pytest.fixture
async def tenant(db: Database) -> Tenant:
    await db.run("delete from timers")
    return await new_tenant(db)


@pytest.fixture
async def routing(db: Database, tenant: Tenant) -> Routing:
    return Routing(db, tenant.id)


async def pool(routing: Routing, members: list[Row] = TEAM, **policy: Any) -> str:
    given = {"sla_minutes": 30, "sla_on_breach": "reassign", **policy}
    return await lay_pool(routing.db, routing.tenant, "team", members, **given)


# ---------------------------------------------------------------- in time
@pytest.mark.parametrize("action", [service.accept, service.void])
async def test_accepting_and_voiding_stop_the_timer(routing, action):
    await pool(routing)
    made = await routing.assign()
    assert await routing.timers() == 1
    for _ in range(2):
        row = await routing.act(
            action, made["assignment_id"], *(["x"] if action is service.void else [])
        )
    assert row["status"] in ("accepted", "void")
    assert (await routing.timers(), await routing.late()) == (0, 0)
    assert len(await routing.rows()) == 1
    name = "assignment.accept" if action is service.accept else "assignment.void"
    assert await routing.audited(name) == 1


@pytest.mark.parametrize("how", ["accept", "void", "bad_fit"])
async def test_who_ends_it_while_its_timer_fires_does_not_wait_for_the_timer(routing, how):
    await pool(routing)
    made = await routing.assign()
    async with routing.db.transaction() as firing:
        await firing.run("select from timers where job = 'routing.sla' for update")
        async with asyncio.timeout(5):
            if how == "bad_fit":
                await routing.assign(reset_rules={"reason": "bad_fit"})
            elif how == "void":
                await routing.act(service.void, made["assignment_id"], "x")
            else:
                await routing.act(service.accept, made["assignment_id"])
        await firing.act_for(routing.tenant)
        args = {"tenant": routing.tenant, "assignment": made["assignment_id"]}
        before = await routing.rows()
        await sla.breach(firing, timers.Fire("routing.sla:x", args, made["at"]))
    assert await routing.rows() == before, "the timer found that nothing was left to do"


async def test_the_timer_runs_from_the_decision(routing):
    await pool(routing)
    made = await routing.assign()
    (row,) = await routing.rows()
    (timer,) = await routing.rows("select due_at from timers where job = 'routing.sla'")
    assert timer["due_at"] == row["breach_at"]
    assert (row["breach_at"] - row["created_at"]).total_seconds() == 1800
    assert row["created_at"] == made["at"]
    assert await timers.run_due(routing.db) == 0


async def test_without_an_sla_there_is_no_timer(routing):
    await pool(routing, sla_minutes=None)
    await routing.assign()
    assert await routing.timers() == 0


# ---------------------------------------------------------------- too late
async def test_a_breach_goes_to_the_next_who_has_not_had_it(routing):
    await pool(routing, sla_max_hops=9)
    first = await routing.assign()
    assert await routing.late() == 1
    assert await routing.late() == 1
    assert await routing.story() == [
        ("ann", "rotation", "rerouted"),
        ("bob", "rotation", "rerouted"),
        ("cid", "rotation", "assigned"),
    ]
    rows = await routing.rows()
    assert [row["hop"] for row in rows] == [0, 1, 2]
    assert [row["rerouted_from"] for row in rows] == [None, rows[0]["id"], rows[1]["id"]]
    assert rows[0]["id"] == first["assignment_id"]
    assert rows[2]["reasons"] == ["held_before", "held_before", None]
    assert [row["prev_owner"] for row in rows] == [None, "ann", "bob"]
    assert [row["credits"] for row in rows] == [1, 0, 0]
    assert len(await routing.rows("select id from credit_ledger where kind = 'charge'")) == 1
    logged = await routing.rows("select assigned_to, reason, sequence from route_log order by id")
    assert [(row["assigned_to"], row["reason"]) for row in logged] == [
        ("ann", None),
        ("bob", "sla"),
        ("cid", "sla"),
    ]
    assert await routing.late() == 1  # nobody is left: it stays, and that is on record
    assert (await routing.story())[2:] == [("cid", "rotation", "assigned")]
    assert (await routing.timers(), await routing.audited("assignment.breached")) == (0, 1)


async def test_who_was_passed_over_for_one_record_is_next_for_another(routing):
    await pool(routing)
    await routing.assign("r1")
    await routing.late()
    owners = [(await routing.assign(f"s{i}"))["assigned_to"] for i in range(4)]
    assert owners == ["cid", "ann", "bob", "cid"]


@pytest.mark.parametrize(("fallback", "then"), [("queue", "rerouted"), (None, "assigned")])
async def test_after_the_last_hop_it_goes_to_the_fallback_or_stays(routing, fallback, then):
    await pool(routing, sla_max_hops=1, fallback=fallback)
    await routing.assign()
    await routing.late()
    await routing.late()
    story = await routing.story()
    assert story[:2] == [("ann", "rotation", "rerouted"), ("bob", "rotation", then)]
    assert story[2:] == ([("queue", "fallback", "assigned")] if fallback else [])
    assert await routing.timers() == 0


@pytest.mark.parametrize(
    ("policy", "owner", "method"),
    [
        ({"sla_on_breach": "escalate", "sla_escalate_to": "boss"}, "boss", "escalation"),
        ({"sla_on_breach": "queue", "fallback": "queue"}, "queue", "fallback"),
    ],
)
async def test_a_breach_escalates_or_queues_as_the_pool_says(routing, policy, owner, method):
    await pool(routing, **policy)
    await routing.assign()
    turns = await routing.turns()
    await routing.late()
    assert await routing.story() == [("ann", "rotation", "rerouted"), (owner, method, "assigned")]
    assert await routing.turns() == turns
    assert await routing.timers() == 0


@pytest.mark.parametrize(("refund", "turns"), [(True, [0, 1, 0]), (False, [1, 1, 0])])
async def test_the_turn_comes_back_where_the_pool_says_so(routing, refund, turns):
    await pool(routing, sla_refund_turn=refund)
    await routing.assign()
    await routing.late()
    assert await routing.turns() == turns


async def test_what_was_moved_on_is_repeated_from_where_it_is_now(routing):
    await pool(routing)
    await routing.assign()
    await routing.late()
    again = await routing.assign()
    assert (again["verdict"], again["assigned_to"], again["sequence"]) == ("repeated", "bob", 2)
    await routing.act(service.void, again["assignment_id"], "typo")
    anew = await routing.assign()  # neither the void row nor the one before it is repeated
    assert (anew["verdict"], anew["sequence"], anew["credits"]) == ("assigned", 3, 1)


async def test_who_held_a_record_long_ago_may_have_it_again(routing):
    await pool(routing, [{"user_id": "ann"}, {"user_id": "bob"}], dedupe_minutes=0)
    await routing.assign()
    await routing.late()  # from ann to bob
    await routing.act(service.accept, (await routing.rows())[-1]["id"])
    await routing.assign("other")  # ann
    anew = await routing.assign()
    assert anew["assigned_to"] == "bob"
    await routing.late()
    moved = (await routing.rows())[-1]
    assert (moved["record"], moved["assigned_to"]) in {("r1", "ann"), ("other", "bob")}
    story = {(row["record"], row["assigned_to"], row["status"]) for row in await routing.rows()}
    assert ("r1", "ann", "assigned") in story


OTHERWISE = {"reset_rules": {"reason": "user_request", "place_user_at_top": "bob"}}


@pytest.mark.parametrize("accepted", [True, False])
async def test_an_assignment_that_a_later_one_replaced_takes_the_record_from_nobody(
    routing, accepted
):
    await pool(routing)
    first = await routing.assign()
    second = await routing.assign(**OTHERWISE)
    if accepted:
        await routing.act(service.accept, second["assignment_id"])
    await fire(routing, first)
    story = [
        ("ann", "rotation", "assigned"),
        ("bob", "top", "accepted" if accepted else "assigned"),
    ]
    assert await routing.story() == story
    # Where the later one is taken back, the first one's owner has the record, and loses it in time.
    third = await routing.assign("r2")
    fourth = await routing.assign("r2", **OTHERWISE)
    await routing.act(service.void, fourth["assignment_id"], "typo")
    await fire(routing, third)
    assert (await routing.rows())[-1]["rerouted_from"] == third["assignment_id"]


async def fire(routing: Routing, made: Row) -> None:
    key = service.sla_key(made["assignment_id"])
    due = "update timers set due_at = clock_timestamp() where key = %s"
    assert await routing.db.run(due, (key,)) == 1
    assert await timers.run_due(routing.db) == 1


async def accept_it(tx: Any, call: Call, made: Row) -> None:
    await service.accept(tx, call, made["assignment_id"])


async def void_it(tx: Any, call: Call, made: Row) -> None:
    await service.void(tx, call, made["assignment_id"], "typo")


async def find_it_unfit(tx: Any, call: Call, _made: Row) -> None:
    body = AssignRequest(object="lead", sf_id="r1", pool="team", reset_rules={"reason": "bad_fit"})
    await service.assign(tx, call, body, charge_size=False)


@pytest.mark.parametrize("end", [accept_it, void_it, find_it_unfit])
async def test_a_timer_that_fires_meanwhile_waits_and_finds_nothing_to_do(routing, end):
    held = await pool(routing)
    made = await routing.assign()
    await routing.db.run("update timers set due_at = clock_timestamp() where job = 'routing.sla'")
    async with routing.db.transaction(routing.tenant) as tx:
        call = routing.call()
        call.open_tx = tx
        await store.lock(tx, held)
        firing = asyncio.create_task(timers.run_due(routing.db))
        for _ in range(200):  # until it has the timer and waits for the pool
            waiting = (  # here: other workers wait for locks of their own databases
                "select 1 from pg_locks w join pg_locks h on h.pid = w.pid and h.database ="
                " (select oid from pg_database where datname = current_database())"
                " where not w.granted limit 1"
            )
            if await routing.db.one(waiting):
                break
            await asyncio.sleep(0.02)
        await end(tx, call, made)
    assert await firing == 1
    assert (await routing.rows())[0]["status"] in ("accepted", "void", "bad_fit")
    assert [row["hop"] for row in await routing.rows()].count(1) == 0


async def test_a_breach_that_fails_is_tried_again_and_nothing_is_left_of_it(routing, monkeypatch):
    await pool(routing)
    await routing.assign()

    async def fail(*_: Any, **__: Any) -> bool:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(service, "end", fail)
        await routing.late()
    assert await routing.story() == [("ann", "rotation", "assigned")]
    assert await routing.timers() == 1
    await routing.late()
    assert (await routing.story())[1:] == [("bob", "rotation", "assigned")]


@pytest.mark.slow
async def test_the_timer_outlives_the_server(routing, dsn):
    await pool(routing, sla_max_hops=1)
    with_server = InProcess(dsn)
    await asyncio.to_thread(with_server.__enter__)
    await routing.assign()
    await asyncio.to_thread(with_server.__exit__)
    await routing.db.run("update timers set due_at = clock_timestamp() where job = 'routing.sla'")
    await asyncio.sleep(1.5)
    assert len(await routing.rows()) == 1  # no server, no firing
    next_server = InProcess(dsn)
    await asyncio.to_thread(next_server.__enter__)
    try:
        for _ in range(100):
            if len(await routing.rows()) > 1:
                break
            await asyncio.sleep(0.1)
    finally:
        await asyncio.to_thread(next_server.__exit__)
    assert await routing.story() == [
        ("ann", "rotation", "rerouted"),
        ("bob", "rotation", "assigned"),
    ]


# ---------------------------------------------------------------- what the CRM refuses
async def ledger_rows(routing: Routing) -> list[tuple[str, int]]:
    rows = await routing.rows(
        "select kind, used from credit_ledger where kind <> 'grant' order by id"
    )
    return [(row["kind"], int(row["used"])) for row in rows]


async def test_a_record_that_is_gone_gives_turn_and_credits_back_once(routing):
    await pool(routing)
    made = await routing.assign()
    for _ in range(2):
        await routing.refused(made["assignment_id"], "record_gone")
    assert await routing.story() == [("ann", "rotation", "void")]
    assert await routing.turns() == [0, 0, 0]
    assert await ledger_rows(routing) == [("charge", 1), ("release", -1)]
    (row,) = await routing.rows("select balance from credit_balances")
    assert row["balance"] == 1000
    assert await routing.timers() == 0
    assert (await routing.assign("r2"))["assigned_to"] == "ann"


async def test_an_owner_who_may_not_own_is_replaced_and_left_out(routing):
    await pool(routing)
    made = await routing.assign()
    for _ in range(2):
        await routing.refused(made["assignment_id"], "owner_inactive")
    assert await routing.story() == [("ann", "rotation", "void"), ("bob", "rotation", "assigned")]
    assert await routing.turns() == [0, 1, 0]
    assert await ledger_rows(routing) == [("charge", 1)]
    owners = [(await routing.assign(f"s{i}"))["assigned_to"] for i in range(3)]
    assert owners == ["cid", "bob", "cid"]
    (asked,) = await routing.rows("select activity_at from routing_pools")
    assert asked["activity_at"] is None  # one owner was refused, nobody spoke of the others


async def test_where_nobody_can_replace_the_owner_the_credits_come_back(routing):
    await pool(routing, [{"user_id": "ann"}])
    made = await routing.assign()
    await routing.refused(made["assignment_id"], "owner_inactive")
    assert await routing.story() == [("ann", "rotation", "void")]
    assert await ledger_rows(routing) == [("charge", 1), ("release", -1)]


async def test_a_refused_owner_whom_a_later_decision_replaced_is_not_replaced_twice(routing):
    await pool(routing)
    first = await routing.assign()
    await routing.assign(**OTHERWISE)
    await routing.refused(first["assignment_id"], "owner_inactive")
    assert await routing.story() == [("ann", "rotation", "void"), ("bob", "top", "assigned")]
    assert await ledger_rows(routing) == [("charge", 1), ("charge", 2), ("release", -1)]


async def test_a_fallback_whom_the_crm_refuses_is_not_given_the_record_again(routing):
    policy = {"fallback": "zoe", "fallback_kind": "user", "sla_minutes": None}
    await pool(routing, [{"user_id": "ann"}], **policy)
    first = await routing.assign()
    await routing.refused(first["assignment_id"], "owner_inactive")
    second = (await routing.rows())[-1]
    await routing.refused(second["id"], "owner_inactive")
    assert await routing.story() == [("ann", "rotation", "void"), ("zoe", "fallback", "void")]
    assert await ledger_rows(routing) == [("charge", 1), ("release", -1)]


async def test_a_record_gone_after_its_owner_was_replaced_gives_back_what_was_paid(routing):
    await pool(routing)
    made = await routing.assign()
    await routing.refused(made["assignment_id"], "owner_inactive")
    second = (await routing.rows())[-1]
    for _ in range(2):
        await routing.refused(second["id"], "record_gone")
    assert await ledger_rows(routing) == [("charge", 1), ("release", -1)]
    assert await routing.turns() == [0, 0, 0]


async def test_a_refusal_of_what_has_moved_on_changes_nothing(routing):
    await pool(routing)
    made = await routing.assign()
    await routing.late()
    before = await routing.rows()
    for why in ("record_gone", "owner_inactive"):
        await routing.refused(made["assignment_id"], why)
    assert await routing.rows() == before
    assert await store_missing(routing)


async def store_missing(routing: Routing) -> bool:
    async with routing.db.transaction(routing.tenant) as tx:
        await sla.refused(tx, routing.tenant, "asg_none", "record_gone")
        return await store.fetch(tx, "asg_none") is None


# ---------------------------------------------------------------- what it costs
async def test_a_breach_that_finds_nobody_costs_nothing_even_where_misses_do(routing):
    async with routing.db.transaction(routing.tenant) as tx:
        price = PriceChange(credits=1, charge_on="query")
        await credits.set_price(tx, routing.tenant, ("routing.assign", "assign"), price)
        await ledger.charge(tx, routing.tenant, 999, "rest", ledger.Use("test"))
    await pool(routing, [{"user_id": "ann"}])
    await routing.assign()  # the last credit
    paid = await ledger_rows(routing)
    assert await routing.late() == 1
    assert (await ledger_rows(routing), await routing.timers()) == (paid, 0)
    assert await routing.audited("assignment.breached") == 1


async def test_a_turn_of_an_epoch_that_is_over_is_not_given_back(routing):
    await pool(routing)
    before = await routing.assign("r1")
    assert before["assigned_to"] == "ann"
    again = await routing.assign("r2", reset_rules={"reason": "user_request"})
    assert (again["assigned_to"], again["epoch"]) == ("ann", 1)
    await routing.act(service.void, before["assignment_id"], "x")
    assert [(await routing.assign(r))["assigned_to"] for r in ("r3", "r4", "r5")] == [
        "bob",
        "cid",
        "ann",
    ]
