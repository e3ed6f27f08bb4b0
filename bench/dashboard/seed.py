"""A tenant with much of everything: 100,000 runs, 1,000,000 rows of the log, the ledger, assignments.

`python seed.py DSN TENANT`, with a role that sees every row, such as the embedded server's own.
"""

import sys

import psycopg

POOLS = 20
STATEMENTS = (
    # ------------------------------------------------------------------ agents and runs
    """
    insert into agents (tenant_id, id, name, description)
    select %(t)s, 'agent_seed' || n, 'agent-' || n, 'Seeded' from generate_series(0, 39) n
    """,
    """
    insert into runs (id, tenant_id, kind, agent_id, agent_name, status, input, output, error, closed,
        tokens_in, tokens_out, cost_usd, created_at, started_at, finished_at)
    select 'run_seed' || lpad(n::text, 8, '0'), %(t)s, 'agent', 'agent_seed' || n %% 40,
        'agent-' || n %% 40, s.status, '{"topic": "seeded"}',
        case when s.status = 'completed' then '{"text": "Seeded output.", "format": "markdown"}'::json end,
        case when s.status = 'failed' then '{"code": "upstream_error", "message": "no answer"}'::jsonb end,
        true, 150, 300, 0.0042, at, at + interval '5 ms', at + n %% 9000 * interval '1 ms'
    from generate_series(1, %(runs)s) n,
        lateral (select now() - n * interval '30 days' / %(runs)s as at) a,
        lateral (select case when n %% 50 = 0 then 'failed' when n %% 90 = 1 then 'cancelled'
            else 'completed' end as status) s
    """,
    """
    insert into run_steps (tenant_id, run_id, n, name, status, attempt, model_used, why, tokens_in,
        tokens_out, cost_usd, duration_ms, output, started_at)
    select %(t)s, r.id, k, case k when 0 then 'plan' else 'write' end, 'completed', 1, 'small', 'auto',
        75, 150, 0.0021, 800 + k * 100, 'Seeded output.', r.started_at + k * interval '1 s'
    from runs r, generate_series(0, 1) k where r.tenant_id = %(t)s
    """,
    # ------------------------------------------------------------------ the log and its chain
    """
    insert into route_log (tenant_id, id, at, action, object, object_id, pool, assigned_to, sequence,
        reason, request_id, diff, salt, digest)
    select %(t)s, nextval('route_log_id'), now() - n * interval '30 days' / %(rows)s,
        (array['assign', 'assign', 'assign', 'enrich', 'merge', 'convert'])[1 + n %% 6],
        (array['Lead', 'Contact', 'Account'])[1 + n %% 3], '00Q5g00000' || lpad((n %% 250000)::text, 8, '0'),
        'pool-' || n %% 20, 'user-' || n %% 340, n, null, 'req_seed' || n,
        case when n %% 10 = 0 then '{"OwnerId": {"old": null, "new": "user"}}' end,
        decode(md5(n::text), 'hex'), sha256(n::text::bytea)
    from generate_series(1, %(rows)s) n
    """,
    """
    insert into log_seals (tenant_id, chain_seq, row_id, at, digest, link)
    select tenant_id, row_number() over (order by at), id, at, digest, digest from route_log
    where tenant_id = %(t)s
    """,
    "insert into log_chains (tenant_id, chain_seq, link) values"
    " (%(t)s, %(rows)s, sha256('end')) on conflict (tenant_id) do nothing",
    # ------------------------------------------------------------------ the ledger
    """
    insert into credit_ledger (tenant_id, kind, amount, used, balance_after, ref, operation, key_id, steps,
        created_at)
    select %(t)s, 'charge', -1, 1, 1000000 + n, 'seed:' || n,
        (array['assign', 'assign', 'enrich_person', 'match', 'convert', 'research', 'merge'])[1 + n %% 7],
        'key_seed' || n %% 3, '[{"item": "base", "credits": 1}]', now() - n * interval '30 days' / %(rows)s
    from generate_series(1, %(rows)s) n
    """,
    # ------------------------------------------------------------------ assignments
    """
    insert into routing_pools (tenant_id, id, name, ring)
    select %(t)s, 'pool_seed' || n, 'pool-' || n, 17 from generate_series(0, 19) n
    """,
    """
    insert into routing_members (tenant_id, pool_id, user_id, user_key, place, gaps, seat)
    select %(t)s, 'pool_seed' || n, 'user-' || n * 17 + k, 'user-' || n * 17 + k, k + 1, '{17}', k
    from generate_series(0, 19) n, generate_series(0, 16) k
    """,
    """
    insert into routing_rotations (tenant_id, pool_id, sequence, users, waits, cursors, turns)
    select %(t)s, pool_id, %(rows)s / 20, array_agg(user_id order by place),
        array_agg(place::bigint order by place), array_agg(1 order by place),
        array_agg((%(rows)s / 340)::bigint order by place)
    from routing_members where tenant_id = %(t)s group by pool_id
    """,
    """
    insert into routing_assignments (tenant_id, id, pool_id, pool, pool_version, sequence, epoch, object,
        sf_id, record, assigned_to, method, status, exclude_inactive, pool_size, eligible_size, users,
        waits, reasons, credits, created_at)
    select %(t)s, 'asg_seed' || lpad(n::text, 8, '0'), 'pool_seed' || n %% 20, 'pool-' || n %% 20, 1,
        1 + (%(rows)s - n) / 20, 0, 'lead', r.record, r.record, 'user-' || n %% 20 * 17 + n / 20 %% 17,
        'rotation', case when n %% 3 = 0 then 'accepted' else 'assigned' end, true, 17, 17,
        array['user-1', 'user-2'], array[0, 1]::bigint[], array[null, null]::text[], 1,
        now() - n * interval '30 days' / %(rows)s
    from generate_series(1, %(rows)s) n,
        lateral (select '00Q5g00000' || lpad((n %% 250000)::text, 8, '0') as record) r
    """,
    "update credit_balances set balance = 250000, granted = 1250000 where tenant_id = %(t)s",
    "analyze",
)


def seed(dsn: str, tenant: int, runs: int = 100_000, rows: int = 1_000_000) -> None:
    """Fill one tenant."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set search_path = lantern, public")
        connection.execute("set synchronous_commit = off")
        for statement in STATEMENTS:
            connection.execute(statement, {"t": tenant, "runs": runs, "rows": rows})


if __name__ == "__main__":
    seed(sys.argv[1], int(sys.argv[2]))
