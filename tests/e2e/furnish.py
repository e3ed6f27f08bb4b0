"""A tenant that looks lived in: agents, runs of a day, a pool with assignments, a month of credits."""

from typing import Any

import httpx
import psycopg

AGENTS = (
    ("lead-researcher", "Says in three lines what matters about a company", "medium"),
    ("inbox-triage", "Sorts replies by what the sender wants", "small"),
    ("brief-writer", "Writes one paragraph about a topic", "small"),
)
PEOPLE = ("Ann Albers", "Ben Okafor", "Chiara Russo", "Dev Patel", "Emil Sand")
WHERE = {"pool": "inbound-emea", "agent": "lead-researcher"}

# The past: moments cannot be made through the API.
PAST = (
    """
    insert into runs (id, tenant_id, kind, agent_id, agent_name, status, input, output, error, closed,
        tokens_in, tokens_out, cost_usd, created_at, started_at, finished_at)
    select 'run_' || lpad(to_hex(n * 7919), 12, '0') || %(t)s, %(t)s, 'agent', a.id, a.name,
        case when n %% 41 = 0 then 'failed' when n %% 67 = 0 then 'cancelled' else 'completed' end,
        '{"topic": "Brightloom"}', '{"text": "Brightloom weaves light in Tulsa."}',
        case when n %% 41 = 0 then '{"code": "upstream_timeout", "message": "model ''medium'': silent for 20 s"}'::jsonb end,
        true, 400 + n %% 90, 120 + n %% 70, 0.0011 + n %% 5 * 0.0004, at, at + interval '6 ms',
        at + (700 + n * 37 %% 5200) * interval '1 ms'
    from generate_series(1, 260) n
    join lateral (select id, name from agents where tenant_id = %(t)s order by name
        offset n %% 3 limit 1) a on true
    join lateral (select now() - power(n / 260.0, 1.3) * interval '23 hours' - interval '9 min' as at) m
        on true
    """,
    """
    insert into credit_ledger (tenant_id, kind, amount, used, balance_after, ref, operation, steps, created_at)
    select %(t)s, 'charge', -c, c, 5000, 'past:' || d || ':' || o, o,
        jsonb_build_array(jsonb_build_object('item', 'base', 'credits', c)),
        date_trunc('day', now()) - d * interval '1 day' + interval '1 hour'
    from generate_series(0, 29) d,
        (values ('assign', 21), ('enrich_person', 33), ('match', 12), ('research', 18), ('convert', 6)) v (o, w),
        lateral (select round((w * (1 + 0.5 * sin(d * 1.7 + w)))::numeric, 1) as c) c
    """,
    "update credit_balances set balance = 2140, granted = 5000 where tenant_id = %(t)s",
)


async def furnish(api: httpx.AsyncClient, dsn: str, tenant: int) -> dict[str, Any]:
    """Fill the tenant; the ids of what pages are about."""
    for name, description, model in AGENTS:
        body = {"name": name, "description": description, "model": model}
        body["system_prompt"] = f"{description}. Be brief, name your sources."
        (await api.post("/v1/agents", json=body)).raise_for_status()
    pool = {
        "pool": WHERE["pool"],
        "members": [
            {"user_id": f"0055g00000A{n}x1QAC", "name": name, "weight": 1 + (n == 1)}
            for n, name in enumerate(PEOPLE)
        ],
    }
    (await api.post("/v1/routing/pools", json=pool)).raise_for_status()
    for n in range(34):
        body = {"object": "lead", "sf_id": f"00Q5g00000B{n:04d}LAN", "pool": WHERE["pool"]}
        made = await api.post("/v1/routing/assign", json={**body, "explain": True})
        made.raise_for_status()
    await api.post("/v1/api-keys", json={"name": "crm sync", "scopes": ["write"]})
    await api.post("/v1/api-keys", json={"name": "weekly report", "scopes": ["read"]})
    with psycopg.connect(dsn, autocommit=True) as boss:
        boss.execute("set search_path = lantern, public")
        for statement in PAST:
            boss.execute(statement, {"t": tenant})
    run = (
        await api.post("/v1/agents/brief-writer/runs", json={"input": {"topic": "Tulsa"}})
    ).json()
    return {**WHERE, "assignment": made.json()["assignment_id"], "run": run["run_id"]}


def pages(ids: dict[str, Any]) -> dict[str, str]:
    """Every page by the name of its picture."""
    return {
        "overview": "",
        "agents": "/agents",
        "agent": f"/agents/{ids['agent']}",
        "agent-new": "/agents/new",
        "runs": "/runs",
        "run": f"/runs/{ids['run']}",
        "routing": "/routing",
        "pool": f"/routing/pools/{ids['pool']}",
        "assignments": "/routing/assignments",
        "assignment": f"/routing/assignments/{ids['assignment']}",
        "simulate": f"/routing/pools/{ids['pool']}/simulate",
        "logs": "/logs",
        "credits": "/credits",
        "receipts": "/credits/receipts",
        "tariff": "/credits/tariff",
        "keys": "/settings/keys",
        "models": "/settings/models",
        "health": "/health",
    }
