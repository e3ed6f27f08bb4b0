-- The dashboard: who is signed in, and what its pages need to stay quick over many rows.
-- docs/dashboard.md says what a session is.

-- ------------------------------------------------------------------ who is signed in
-- A link opens one session, once. `roams`: the session may go to any tenant (the operator's).
create table dashboard_links (
    hash bytea primary key,
    tenant_id int not null references tenants,
    roams boolean not null,
    expires_at timestamptz not null
);

-- Without `key_id` the operator's own; with it the key's, and it ends with the key.
create table dashboard_sessions (
    hash bytea primary key,
    tenant_id int not null references tenants,
    key_id text references api_keys,
    roams boolean not null default false,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null
);
create index on dashboard_sessions (expires_at);

-- ------------------------------------------------------------------ how much was used, by day
-- Days that are over, added up once: the ledger's rows are never changed (credits/store.py).
create table credit_days (
    tenant_id int not null references tenants,
    day date not null,
    operation text not null,
    used numeric(18, 4) not null,
    primary key (tenant_id, day, operation)
);

-- The few runs that are not well, without a walk over all the others.
create index runs_troubled on runs (tenant_id, status, created_at desc, id desc)
    where status in ('failed', 'cancelled', 'paused');

-- The few assignments that did not last, likewise. What lasts is not in it: an assignment costs no more.
create index routing_assignments_ended
    on routing_assignments (tenant_id, status, created_at desc, id desc)
    where status in ('void', 'bad_fit', 'rerouted');

do $$
declare
    t text;
begin
    foreach t in array array['dashboard_links', 'dashboard_sessions', 'credit_days'] loop
        execute format('alter table %I enable row level security', t);
        execute format('alter table %I force row level security', t);
        execute format('create policy tenant on %I to lantern_app using (tenant_id = tenant())', t);
        execute format('create policy system on %I to lantern_system using (true)', t);
        execute format('grant select, insert, update, delete on %I to lantern_system', t);
    end loop;
end $$;
grant select, insert on dashboard_links, dashboard_sessions to lantern_app;
grant select, insert on credit_days to lantern_app;
grant create on schema lantern to lantern_system;  -- taken back at the end

-- ------------------------------------------------------------------ sessions
-- Uses up a link and opens a session; false: the link is unknown, used or too old.
create function enter_dashboard(p_link bytea, p_session bytea, p_seconds int) returns boolean
language plpgsql security definer set search_path = lantern, pg_temp as $$
declare
    l dashboard_links;
begin
    delete from dashboard_links where expires_at <= clock_timestamp();
    delete from dashboard_sessions where expires_at <= clock_timestamp();
    delete from dashboard_links where hash = p_link returning * into l;
    if l.hash is null then
        return false;
    end if;
    insert into dashboard_sessions (hash, tenant_id, roams, expires_at) values
        (p_session, l.tenant_id, l.roams, clock_timestamp() + make_interval(secs => p_seconds));
    return true;
end $$;

-- As `admit` for a key: session, scope and limit in one statement, and where the session is.
create function admit_session(
    p_hash bytea, p_door jsonb,
    out admission admission, out roams boolean, out tenant_name text
) language plpgsql security definer set search_path = lantern, pg_temp as $$
declare
    s dashboard_sessions;
    k api_keys;
    t record;
    a admission;
begin
    a.verdict := 'unauthorized';
    a.rate_limit := (p_door ->> 'limit')::int;
    a.remaining := a.rate_limit;
    a.reset := ceil(extract(epoch from clock_timestamp()));
    select * into s from dashboard_sessions where hash = p_hash and expires_at > clock_timestamp();
    if s.hash is not null and s.key_id is not null then
        select * into k from api_keys where id = s.key_id and revoked_at is null
            and (expires_at is null or expires_at > clock_timestamp());
    end if;
    if s.hash is null or (s.key_id is not null and k.id is null) then
        admission := a;
        return;
    end if;
    a.tenant := s.tenant_id;
    a.key_id := coalesce(k.id, 'operator');
    a.scopes := coalesce(k.scopes, array['admin']);
    a.agents := coalesce(k.agents, array['*']);
    a.rate_limit := coalesce((k.limits ->> 'dashboard')::int, a.rate_limit);
    select * into t from take(coalesce(k.id, encode(s.hash, 'hex')) || ':dashboard', a.rate_limit);
    a.remaining := t.remaining;
    a.reset := t.reset;
    a.retry := t.retry;
    select balance into a.credits from credit_balances where tenant_id = s.tenant_id;
    a.verdict := case
        when not reaches(a.scopes, p_door ->> 'scope') then 'forbidden'
        when (p_door ->> 'account')::boolean and a.agents <> array['*'] then 'forbidden'
        when p_door ->> 'agent' is not null and a.agents <> array['*']
            and not (p_door ->> 'agent' = any (a.agents)) then 'forbidden'
        when not t.allowed then 'rate_limited'
        else 'ok'
    end;
    if k.last_used_at < clock_timestamp() - interval '60 s' then
        update api_keys set last_used_at = clock_timestamp()
        where id = (select id from api_keys where id = k.id for update skip locked);
    end if;
    admission := a;
    roams := s.roams;
    tenant_name := (select name from tenants where id = s.tenant_id);
end $$;

-- Goes to another tenant; false: there is none, or this session stays where it is.
create function move_session(p_hash bytea, p_tenant int) returns boolean
language sql security definer set search_path = lantern, pg_temp as $$
    with moved as (
        update dashboard_sessions set tenant_id = p_tenant
        where hash = p_hash and roams and exists (select from tenants where id = p_tenant)
        returning 1
    ) select exists (select from moved)
$$;

-- Ends a session (null: none), and all that are over their time.
create function leave_dashboard(p_hash bytea) returns void
language sql security definer set search_path = lantern, pg_temp as $$
    delete from dashboard_sessions where hash = p_hash or expires_at <= clock_timestamp()
$$;

do $$
declare
    f text;
begin
    foreach f in array array['enter_dashboard(bytea, bytea, int)', 'admit_session(bytea, jsonb)',
        'move_session(bytea, int)', 'leave_dashboard(bytea)']
    loop
        execute format('alter function %s owner to lantern_system', f);
        execute format('revoke all on function %s from public', f);
        execute format('grant execute on function %s to lantern_app', f);
    end loop;
end $$;
revoke create on schema lantern from lantern_system;
