"""The demo's scene of routing: the API alone, and again on what an earlier time has left."""

import asyncio
import re

from lantern.cli import demo_routing
from lantern_dev.demo.client import Api


async def test_a_second_time_goes_on_where_the_first_ended(server, tenant, capsys):
    for begins in (1, 9):
        await asyncio.to_thread(demo_routing.show, Api(server.url, tenant.key))
        shown = capsys.readouterr().out
        turns = re.findall(r"(\d+)  lead (\w+)  -> +(\w+)", shown)
        assert [int(number) for number, _, _ in turns] == list(range(begins, begins + 8))
        owners = [owner for _, _, owner in turns]
        assert {who: owners.count(who) for who in owners} == {"ann": 4, "ben": 2, "dan": 2}
        assert shown.startswith("ann (weight 2), ben, cleo (out of office until ")
        assert f"why      Number {begins + 4} of pool 'inbound': " in shown
        assert "Out of office: cleo." in shown
        assert f"charge of 1 for routing.assign, {1001 - begins - 8} left" in shown
        assert f"log      {begins + 7} rows, each chained to the one before: intact" in shown
