-- The log of what was assigned, converted, merged and enriched, its chain of seals, its retention.
-- docs/logs.md defines digest and link so that anybody can compute them again.

-- A schema of their own, closed to `lantern_app`: the one place where `lantern_system` may make
-- tables. The months of the log lie here; they are reached through `route_log` alone.
create schema if not exists lantern_log;
grant usage, create on schema lantern_log to lantern_system;
grant create on schema lantern to lantern_system;  -- taken back at the end

-- No reference to `tenants` in the tables that every call or every seal adds a row to: its check
-- costs as much as the row, and dropping a month would lock `tenants`. Tenants are never deleted.
create sequence route_log_id;
create table route_log (
    tenant_id int not null,
    id bigint not null,
    at timestamptz not null,
    action text not null,
    object text not null,
    object_id text not null,
    pool text,
    assigned_to text,
    prev_owner text,
    sequence bigint,
    reason text,
    request_id text,
    idempotency_key text,
    diff text check (diff is null or diff::json is not null),
    salt bytea not null,
    digest bytea not null,
    primary key (tenant_id, at, id)
) partition by range (at);
create index route_log_object on route_log (tenant_id, object_id);

-- Committed rows that the sealer has not seen yet: written with the row, gone within a second.
create table log_unsealed (
    tenant_id int not null,
    row_id bigint primary key,
    at timestamptz not null,
    digest bytea not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create table log_seals (
    tenant_id int not null,
    chain_seq bigint not null,
    row_id bigint not null,
    at timestamptz not null,
    digest bytea not null,
    link bytea not null,
    primary key (tenant_id, chain_seq),
    unique (tenant_id, row_id)
);

-- The end of each chain. Without it nobody would miss the newest seals.
create table log_chains (
    tenant_id int primary key,
    chain_seq bigint not null default 0,
    link bytea not null default decode(repeat('00', 32), 'hex')
) with (fillfactor = 50);

-- What policy or a person's request removed, signed. Rows are only added.
create table log_erasures (
    tenant_id int not null references tenants,
    id text not null,
    at timestamptz not null,
    kind text not null check (kind in ('retention', 'subject')),
    detail text not null,
    ranges int8multirange not null,
    count bigint not null,
    key_id text not null,
    signature bytea not null,
    primary key (tenant_id, id)
);

-- Stands for all seals up to `chain_seq`, which are gone. Rows are only added.
create table log_checkpoints (
    tenant_id int not null references tenants,
    chain_seq bigint not null,
    link bytea not null,
    at timestamptz not null,
    key_id text not null,
    signature bytea not null,
    primary key (tenant_id, chain_seq)
);

create table log_retention (
    tenant_id int primary key references tenants,
    retention_days int not null default 365 check (retention_days between 1 and 3650),
    cleanup_cron text,                    -- null: with everybody else's
    per_action jsonb not null default '{}',
    last_cleanup_at timestamptz,
    deleted_last_run bigint
);

do $$
declare
    t text;
begin
    foreach t in array array['route_log', 'log_unsealed', 'log_seals', 'log_chains',
        'log_erasures', 'log_checkpoints', 'log_retention']
    loop
        execute format('alter table %I enable row level security', t);
        execute format('alter table %I force row level security', t);
        execute format('create policy tenant on %I to lantern_app using (tenant_id = tenant())', t);
        execute format('create policy system on %I to lantern_system using (true)', t);
        execute format('grant select, insert, update, delete on %I to lantern_system', t);
        execute format('grant select on %I to lantern_app', t);
    end loop;
end $$;
grant insert on route_log, log_unsealed, log_erasures, log_checkpoints to lantern_app;
grant insert, update on log_retention to lantern_app;
grant usage, select on sequence route_log_id to lantern_app, lantern_system;
-- Its owner alone can add and drop months.
alter table route_log owner to lantern_system;

-- ------------------------------------------------------------------ writing
create function log_field(p_value text) returns text language sql immutable parallel safe
as $$ select coalesce(octet_length(p_value)::text || ':' || p_value, '-') $$;

-- One row, its digest, its place in the queue of the sealer. p_object as in `Lead`; p_diff JSON.
create function log_route(
    p_tenant int, p_at timestamptz, p_action text, p_object text, p_object_id text, p_pool text,
    p_assigned_to text, p_prev_owner text, p_sequence bigint, p_reason text, p_request_id text,
    p_idempotency_key text, p_diff text
) returns bigint language plpgsql as $$
declare
    row_id bigint := nextval('route_log_id');
    salted bytea := uuid_send(gen_random_uuid());
    sum bytea := sha256(convert_to(
        log_field(p_tenant::text) || log_field(row_id::text)
        || log_field(to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || log_field(p_action) || log_field(p_object) || log_field(p_object_id)
        || log_field(p_pool) || log_field(p_assigned_to) || log_field(p_prev_owner)
        || log_field(p_sequence::text) || log_field(p_reason) || log_field(p_request_id)
        || log_field(p_idempotency_key) || log_field(p_diff), 'UTF8') || salted);
begin
    insert into route_log (tenant_id, id, at, action, object, object_id, pool, assigned_to,
        prev_owner, sequence, reason, request_id, idempotency_key, diff, salt, digest)
    values (p_tenant, row_id, p_at, p_action, p_object, p_object_id, p_pool, p_assigned_to,
        p_prev_owner, p_sequence, p_reason, p_request_id, p_idempotency_key, p_diff, salted, sum);
    insert into log_unsealed (tenant_id, row_id, at, digest) values (p_tenant, row_id, p_at, sum);
    return row_id;
end $$;

-- ------------------------------------------------------------------ sealing
-- Rows from the queue into the chains, by the one who holds the sealer's lock; p_tenant null: all.
-- The queue is empty nearly always, and so say its statistics: no plan that fits an empty queue only.
create function seal_rows(p_tenant int, p_limit int) returns int language plpgsql
set enable_seqscan = off set enable_sort = off set enable_bitmapscan = off as $$
declare
    r record;
    owner int;
    seq bigint;
    head bytea;
    following bytea;
    sealed int := 0;
begin
    for r in
        with taken as (
            delete from log_unsealed where ctid = any (array(
                select u.ctid from log_unsealed u where p_tenant is null or u.tenant_id = p_tenant
                order by u.row_id limit p_limit
            )) returning tenant_id, row_id, at, digest
        ) select * from taken order by tenant_id, row_id
    loop
        if r.tenant_id is distinct from owner then
            update log_chains set chain_seq = seq, link = head
            where tenant_id = owner;
            owner := r.tenant_id;
            insert into log_chains (tenant_id) values (owner) on conflict do nothing;
            select c.chain_seq, c.link into seq, head from log_chains c
            where c.tenant_id = owner for update;
        end if;
        following := sha256(head || int8send(seq + 1) || int8send(r.row_id) || r.digest);
        insert into log_seals (tenant_id, chain_seq, row_id, at, digest, link)
        values (owner, seq + 1, r.row_id, r.at, r.digest, following)
        on conflict (tenant_id, row_id) do nothing;  -- must not hold up all others for ever
        continue when not found;
        seq := seq + 1;
        head := following;
        sealed := sealed + 1;
    end loop;
    update log_chains set chain_seq = seq, link = head
    where tenant_id = owner;
    return sealed;
end $$;

create function log_lock() returns bigint language sql immutable parallel safe
as $$ select 7809644675268436332 $$;  -- the bytes of "lantseal"

-- How many rows were sealed; null: another node is at it.
create function seal_logs(p_limit int) returns int
language plpgsql security definer set search_path = lantern, pg_temp as $$
begin
    if not pg_try_advisory_xact_lock(log_lock()) then
        return null;
    end if;
    return seal_rows(null, p_limit);
end $$;

-- ------------------------------------------------------------------ erasing
-- Removes up to p_limit rows: those of p_objects, or, with p_objects null, those older than what
-- p_actions says for their action, else than p_before. Tells which places in the chain they had.
create function erase_logs(
    p_tenant int, p_objects text[], p_before timestamptz, p_actions jsonb, p_limit int,
    out gone bigint, out ranges int8multirange, out by_action jsonb
) language plpgsql security definer set search_path = lantern, pg_temp as $$
declare
    newest timestamptz := (select max(t) from (
        select p_before as t union all select value::timestamptz from jsonb_each_text(p_actions)) x);
begin
    perform pg_advisory_xact_lock(log_lock());
    perform seal_rows(p_tenant, 100000);  -- a row leaves the log by its number in the chain
    with chosen as (
        select r.at, r.id, s.chain_seq from route_log r
        join log_seals s on s.tenant_id = r.tenant_id and s.row_id = r.id
        where r.tenant_id = p_tenant and case when p_objects is not null
            then r.object_id = any (p_objects)
            else r.at < newest and r.at < coalesce((p_actions ->> r.action)::timestamptz, p_before)
        end
        order by r.at, r.id limit p_limit
    ), removed as (
        delete from route_log r using chosen c
        where r.tenant_id = p_tenant and r.at = c.at and r.id = c.id
        returning c.chain_seq, r.action
    ), actions as (
        select action, count(*) as n from removed group by action
    )
    select (select count(*) from removed),
        (select range_agg(int8range(chain_seq, chain_seq + 1)) from removed),
        (select jsonb_object_agg(action, n) from actions)
    into gone, ranges, by_action;
end $$;

-- Seals that a checkpoint stands for; how many are gone.
create function cut_log_seals(p_tenant int, p_upto bigint, p_limit int) returns bigint
language plpgsql security definer set search_path = lantern, pg_temp as $$
declare
    cut bigint;
begin
    perform pg_advisory_xact_lock(log_lock());
    delete from log_seals s where s.tenant_id = p_tenant and s.chain_seq in (
        select chain_seq from log_seals
        where tenant_id = p_tenant and chain_seq <= p_upto and chain_seq <= (
            select max(chain_seq) from log_checkpoints where tenant_id = p_tenant)
        order by chain_seq limit p_limit);
    get diagnostics cut = row_count;
    return cut;
end $$;

-- Whose logs the common clean-up takes: all that have one and no schedule of their own.
create function logs_to_clean() returns table (tenant_id int)
language sql stable security definer set search_path = lantern, pg_temp as $$
    select c.tenant_id from log_chains c left join log_retention r using (tenant_id)
    where r.cleanup_cron is null order by c.tenant_id
$$;

-- ------------------------------------------------------------------ months
-- Both take locks that writers wait for, so they wait for them 40 ms at most, five times; what
-- they do not get done is done at the next call.

-- This month's table and those of p_ahead months behind it; the names of the new ones.
create function make_log_months(p_ahead int) returns text[]
language plpgsql security definer set search_path = lantern, pg_temp as $$
declare
    made text[] := '{}';
    before text := current_setting('lock_timeout');
    first timestamptz;
    name text;
begin
    perform set_config('lock_timeout', '40ms', true);
    for i in 0..p_ahead loop
        first := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => i))
            at time zone 'UTC';
        name := 'route_log_' || to_char(first at time zone 'UTC', 'YYYY_MM');
        for try in 1..5 loop
            exit when to_regclass('lantern_log.' || name) is not null;
            begin
                perform add_log_month(name, first,
                    (first at time zone 'UTC' + interval '1 month') at time zone 'UTC');
                made := made || name;
            exception when lock_not_available or deadlock_detected or duplicate_table
                or unique_violation then
                perform pg_sleep(0.1);  -- a reader was in the way, or a twin was faster
            end;
        end loop;
    end loop;
    perform set_config('lock_timeout', before, true);
    return made;
end $$;

-- p_first null: the table of rows that no month has.
create function add_log_month(p_name text, p_first timestamptz, p_end timestamptz) returns void
language plpgsql as $$
begin
    execute format('create table lantern_log.%I (like lantern.route_log including all)', p_name);
    execute format('alter table lantern_log.%I enable row level security', p_name);
    execute format('alter table lantern_log.%I force row level security', p_name);
    execute format('create policy tenant on lantern_log.%I to lantern_app'
        ' using (tenant_id = lantern.tenant())', p_name);
    execute format('create policy system on lantern_log.%I to lantern_system using (true)', p_name);
    if p_first is null then
        execute format('alter table lantern.route_log attach partition lantern_log.%I default', p_name);
        return;
    end if;
    -- Rows of a month that was not there yet went to the table of all others.
    execute format('with early as (delete from lantern_log.route_log_others'
        ' where at >= %L and at < %L returning *) insert into lantern_log.%I select * from early',
        p_first, p_end, p_name);
    execute format('alter table lantern.route_log attach partition lantern_log.%I'
        ' for values from (%L) to (%L)', p_name, p_first, p_end);
end $$;

-- Months that are over and of which no tenant keeps a row; their names.
create function drop_log_months() returns text[]
language plpgsql security definer set search_path = lantern, pg_temp as $$
declare
    dropped text[] := '{}';
    before text := current_setting('lock_timeout');
    name text;
    kept boolean;
begin
    perform set_config('lock_timeout', '40ms', true);
    for name in
        select c.relname from pg_class c join pg_inherits i on i.inhrelid = c.oid
        where i.inhparent = 'lantern.route_log'::regclass
            and c.relname < 'route_log_' || to_char(now() at time zone 'UTC', 'YYYY_MM')
        order by 1
    loop
        for try in 1..5 loop
            execute format('select exists (select from lantern_log.%I)', name) into kept;
            exit when kept;
            begin
                lock table only route_log in access exclusive mode;  -- now nobody adds a row
                execute format('select exists (select from lantern_log.%I)', name) into kept;
                exit when kept;
                execute format('drop table lantern_log.%I', name);
                dropped := dropped || name;
                exit;
            exception when lock_not_available or deadlock_detected then
                perform pg_sleep(0.1);  -- somebody reads the log
            end;
        end loop;
    end loop;
    perform set_config('lock_timeout', before, true);
    return dropped;
end $$;

do $$
declare
    f text;
begin
    foreach f in array array['seal_logs(int)', 'cut_log_seals(int, bigint, int)', 'logs_to_clean()',
        'erase_logs(int, text[], timestamptz, jsonb, int)', 'make_log_months(int)',
        'drop_log_months()']
    loop
        execute format('alter function %s owner to lantern_system', f);
        execute format('revoke all on function %s from public', f);
        execute format('grant execute on function %s to lantern_app', f);
    end loop;
end $$;
revoke create on schema lantern from lantern_system;

set local role lantern_system;
select lantern.add_log_month('route_log_others', null, null);
reset role;
select make_log_months(2);
