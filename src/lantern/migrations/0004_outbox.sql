-- The outbox: effects outside Postgres, promised by the transaction that decided on them.
-- A row is delivered at least once; its receiver knows it by its id (docs/connectors.md).

create table outbox (
    tenant_id int not null references tenants,
    topic text not null,
    id text not null,                     -- the receiver's idempotency key
    order_key text not null,              -- rows of one key go one after the other, by `seq`
    seq bigint not null generated always as identity,
    payload jsonb not null,
    state text not null default 'pending'
        check (state in ('pending', 'done', 'failed', 'superseded')),
    attempts int not null default 0,
    next_try_at timestamptz not null default clock_timestamp(), -- of a claimed row: its lease's end
    claimed_by text,                      -- the node that is delivering it
    first_try_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    error text,                           -- why not yet, or why not; never a secret, never a person
    -- What tells most comes first: then no plan mistakes this index for the other, statistics or none.
    primary key (id, topic, tenant_id)
) with (autovacuum_vacuum_scale_factor = 0.05);
create index outbox_order on outbox (order_key, topic, tenant_id, seq);
create index outbox_due on outbox (topic, next_try_at) where state = 'pending';
create index outbox_finished on outbox (finished_at) where state <> 'pending';

alter table outbox enable row level security;
alter table outbox force row level security;
create policy tenant on outbox to lantern_app using (tenant_id = tenant());
create policy system on outbox to lantern_system using (true);
grant select, insert on outbox to lantern_app;
grant select, insert, update, delete on outbox to lantern_system;

-- Promise an effect, in the caller's transaction; the same topic and id again change nothing.
-- No notify: it takes a lock of the whole server at commit. Nodes look once a second.
create function outbox_add(p_tenant int, p_topic text, p_id text, p_order_key text, p_payload jsonb)
returns void language plpgsql as $$
begin
    insert into outbox (tenant_id, topic, id, order_key, payload)
    values (p_tenant, p_topic, p_id, p_order_key, p_payload)
    on conflict on constraint outbox_pkey do nothing;
end $$;

-- One turn of a node: what became of its deliveries, then what it may deliver next.
-- p_results: [{"tenant_id","topic","id","attempt","state","delay","error"}], state `pending` to try
-- again after `delay` seconds. Only the node that holds a row, in this attempt, may say.
-- p_latest: topics where only the newest row of a key matters; the older are superseded. Returned
-- rows with `state` superseded need nothing more.
-- Not flushed: what a crash of Postgres loses is delivered again, and the receiver knows it.
create function outbox_turn(
    p_node text, p_results jsonb, p_topics text[], p_latest text[], p_room int, p_lease interval
)
returns table (
    tenant_id int, topic text, id text, seq bigint, payload jsonb, attempt int, state text,
    age double precision
) language plpgsql security definer set search_path = lantern, pg_temp as $$
#variable_conflict use_column
declare
    at timestamptz;
begin
    perform set_config('synchronous_commit', 'off', true),
        -- Planning costs ten times the work, and a plan of the empty table must do for a full one.
        set_config('plan_cache_mode', 'force_generic_plan', true),
        set_config('enable_seqscan', 'off', true);
    update outbox o set
        state = r.state,
        claimed_by = null,
        error = r.error,
        next_try_at = clock_timestamp() + make_interval(secs => r.delay),
        finished_at = case when r.state <> 'pending' then clock_timestamp() end
    from jsonb_to_recordset(p_results) as r (tenant_id int, topic text, id text, attempt int,
        state text, delay double precision, error text)
    where o.tenant_id = r.tenant_id and o.topic = r.topic and o.id = r.id
        and o.finished_at is null and o.claimed_by = p_node and o.attempts = r.attempt;
    if p_room <= 0 then
        return;
    end if;
    -- One node claims at a time, so that what follows sees every claim before it.
    perform pg_advisory_xact_lock(hashtext('outbox')::bigint);
    at := clock_timestamp();
    return query
    with due as (
        -- Topic by topic, so that what this node cannot deliver costs it nothing.
        select d.* from unnest(p_topics) as t (name) cross join lateral (
            select o.tenant_id, o.topic, o.id, o.order_key, o.seq, o.next_try_at,
                t.name = any (p_latest) as latest,
                t.name = any (p_latest) and exists (
                    select from outbox n where n.tenant_id = o.tenant_id and n.topic = o.topic
                        and n.order_key = o.order_key and n.seq > o.seq
                ) as late
            from outbox o
            where o.state = 'pending' and o.topic = t.name and o.next_try_at <= at
                and not exists (
                    -- An older row: on its way now, or, where every row counts, not finished.
                    -- (Pending is said so that the index of what is due does not offer itself.)
                    select from outbox f where f.tenant_id = o.tenant_id and f.topic = t.name
                        and f.order_key = o.order_key and f.seq < o.seq and f.finished_at is null
                        and (t.name <> all (p_latest)
                            or (f.claimed_by is not null and f.next_try_at > at))
                )
            order by o.next_try_at limit p_room
            for update of o skip locked
        ) d
        order by d.next_try_at limit p_room
    ), older as (
        -- What waits to be tried again must not hold up the newer one.
        update outbox o set state = 'superseded', claimed_by = null, finished_at = at
        where (o.tenant_id, o.topic, o.id) in (
            select f.tenant_id, f.topic, f.id from due d join outbox f
                on f.tenant_id = d.tenant_id and f.topic = d.topic
                and f.order_key = d.order_key and f.seq < d.seq
            where d.latest and f.finished_at is null
                and not exists (
                    select from due e where e.tenant_id = f.tenant_id and e.topic = f.topic
                        and e.id = f.id
                )
            for update of f skip locked
        )
    )
    update outbox o set
        state = case when d.late then 'superseded' else 'pending' end,
        claimed_by = case when d.late then null else p_node end,
        attempts = o.attempts + case when d.late then 0 else 1 end,
        first_try_at = coalesce(o.first_try_at, at),
        next_try_at = at + p_lease,
        finished_at = case when d.late then at end
    from due d where o.tenant_id = d.tenant_id and o.topic = d.topic and o.id = d.id
    returning o.tenant_id, o.topic, o.id, o.seq, o.payload, o.attempts, o.state,
        extract(epoch from at - o.first_try_at)::double precision;
end $$;

-- Take back what nobody is delivering: the tenant of this transaction, and nobody else's.
create function outbox_withdraw(p_topic text, p_id text) returns void
language sql security definer set search_path = lantern, pg_temp as $$
    update outbox set state = 'superseded', finished_at = clock_timestamp(), error = 'withdrawn'
    where tenant_id = tenant() and topic = p_topic and id = p_id and state = 'pending'
        and (claimed_by is null or next_try_at < clock_timestamp())
$$;

-- Retention: finished rows go after p_keep; what nobody could deliver for so long is given up.
create function outbox_clean(p_keep interval, p_batch int) returns bigint
language plpgsql security definer set search_path = lantern, pg_temp as $$
declare
    gone bigint;
begin
    update outbox set state = 'failed', finished_at = clock_timestamp(),
        error = 'no node could deliver it'
    where ctid in (
        select ctid from outbox where state = 'pending' and next_try_at < clock_timestamp()
            and created_at < clock_timestamp() - p_keep limit p_batch for update skip locked
    );
    delete from outbox where ctid in (
        select ctid from outbox where state <> 'pending'
            and finished_at < clock_timestamp() - p_keep limit p_batch
    );
    get diagnostics gone = row_count;
    return gone;
end $$;

grant create on schema lantern to lantern_system;
do $$
declare
    f regprocedure;
begin
    for f in select p.oid::regprocedure from pg_proc p
        where p.pronamespace = 'lantern'::regnamespace
            and p.proname in ('outbox_turn', 'outbox_withdraw', 'outbox_clean')
    loop
        execute format('alter function %s owner to lantern_system', f);
        execute format('revoke all on function %s from public', f);
        execute format('grant execute on function %s to lantern_app', f);
    end loop;
end $$;
revoke create on schema lantern from lantern_system;
