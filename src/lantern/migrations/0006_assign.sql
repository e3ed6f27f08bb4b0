-- The decision: one function, one round trip, one transaction that holds the pool's row.
-- docs/routing.md tells it in words; routing/rotation.py is the same rotation in Python, which
-- explains, simulates, and is the oracle of the tests.

-- Each row is added with the tenant's balance locked, which proves that there is such a tenant; the
-- reference would lock the tenant's row as well, once a charge.
alter table credit_ledger drop constraint credit_ledger_tenant_id_fkey;

-- Why a member is not at work at a moment; null: at work.
create function schedule_reason(m routing_members, p_at timestamptz) returns text
language sql stable as $$
    select case
        when m.out_of_office @> p_at then 'out_of_office'
        when l.at::date = any (m.holidays) then 'holiday'
        when m.hours is not null and not m.hours @> (
            (extract(isodow from l.at)::int - 1) * 1440 + extract(hour from l.at)::int * 60
            + extract(minute from l.at)::int) then 'outside_hours'
    end
    from (select p_at at time zone m.timezone as at) l
$$;

-- When the local day or week of a moment began: of a midnight that comes twice, the first one.
create function local_start(p_unit text, p_at timestamptz, p_zone text) returns timestamptz
language sql stable as $$
    select case when (d.at - interval '1 hour') at time zone p_zone >= d.at at time zone p_zone
        then d.at - interval '1 hour' else d.at end
    from (select date_trunc(p_unit, p_at, p_zone) as at) d
$$;

-- Which cap of a member is reached; null: none. Days and weeks are the member's own.
create function cap_reason(m routing_members, p_at timestamptz) returns text
language sql stable as $$
    select case
        when c.hour >= m.cap_hour then 'cap_hour'
        when c.day >= m.cap_day then 'cap_day'
        when c.week >= m.cap_week then 'cap_week'
        when m.cap_open <= (
            select count(*) from routing_assignments a where a.pool_id = m.pool_id
                and a.assigned_to = m.user_id and a.status = 'assigned') then 'cap_open'
    end
    from (
        select date_trunc('hour', p_at, m.timezone) as hour,
            local_start('day', p_at, m.timezone) as day,
            local_start('week', p_at, m.timezone) as week
        offset 0  -- once, not for each row below
    ) s cross join lateral (
        select count(*) filter (where a.created_at >= s.hour) as hour,
            count(*) filter (where a.created_at >= s.day) as day, count(*) as week
        from routing_assignments a
        where a.pool_id = m.pool_id and a.assigned_to = m.user_id
            and a.status in ('assigned', 'accepted')
            and a.created_at >= case when m.cap_week is not null then s.week
                when m.cap_day is not null then s.day else s.hour end
    ) c
$$;

-- Whether a member who is away now is at work within so many minutes; looked at every 5.
create function comes_back(m routing_members, p_at timestamptz, p_minutes int) returns boolean
language sql stable as $$
    select exists (select from generate_series(5, p_minutes, 5) as i
        where schedule_reason(m, p_at + make_interval(mins => i)) is null)
$$;

-- Undo a pick: the turn is ahead of the member again. The caller holds the pool's row.
-- A turn of an epoch that reset rules have ended is gone with it.
create function give_turn_back(p_pool text, p_user text, p_epoch int) returns boolean language plpgsql as $$
declare
    m routing_members;
    back int;
begin
    select * into m from routing_members where pool_id = p_pool and user_id = p_user;
    if not found or not m.credit_back then
        return false;
    end if;
    select case when r.cursors[m.place] = 1 then cardinality(m.gaps)
        else r.cursors[m.place] - 1 end into back
    from routing_rotations r where r.pool_id = p_pool and r.epoch = p_epoch;
    if not found then
        return false;
    end if;
    update routing_rotations r set cursors[m.place] = back,
        waits[m.place] = r.waits[m.place] - m.gaps[back],
        turns[m.place] = r.turns[m.place] - 1
    where r.pool_id = p_pool;
    return true;
end $$;

-- p: {"id","pool","object","title","sf_id","record","exclude_inactive","reset","reason","top",
--     "owner","size_price","key_id","request_id","idempotency_key","tags","crm"} and, for the
-- server's own re-routing, {"hop","from","held","to","method","free"}. p_at: tests alone.
-- Refusals return as `verdict`. What only shows at the end, a balance that does not suffice,
-- raises LN402 with the facts in DETAIL, so that nothing of it stays.
create function assign_owner(
    p_tenant int, p jsonb, p_at timestamptz,
    out verdict text, out assignment_id text, out assigned_to text, out sequence bigint,
    out pool_size int, out eligible_size int, out at timestamptz, out method text, out epoch int,
    out credits numeric, out balance numeric, out users text[], out reasons text[], out crm_write text
) language plpgsql set enable_seqscan = off as $$  -- plans made while a table was small are kept
<<here>>
declare
    pool routing_pools;
    r routing_rotations;
    seen routing_assignments;
    known text := p ->> 'record';
    kind text := p ->> 'object';
    resets boolean := (p ->> 'reset')::boolean;
    before text := p ->> 'owner';           -- who owned the record until now
    keys text[];
    waits bigint[];
    free boolean[];
    nexts bigint[];                         -- the gap that a member's next pick adds
    prevs bigint[];                         -- the gap that led to its next turn
    rounds int[];                           -- how many gaps it has
    bad_fit text[] := '{}';
    met boolean;                            -- whether the record was ever assigned
    steps jsonb := '[]';
    place int;
    elapsed bigint := 0;
    owed bigint;                            -- turns that the member at the top had to come
    was routing_rotations;                  -- as it stood before a bad fit gave its turn back
    n int;
    u text;
begin
    perform set_config('app.tenant', p_tenant::text, true);
    select x.* into r from routing_pools y join routing_rotations x on x.pool_id = y.id
    where y.name = p ->> 'pool' and y.deleted_at is null for update of x;
    select * into pool from routing_pools y where y.id = r.pool_id and y.deleted_at is null;
    if not found then
        verdict := 'no_pool';
        return;
    end if;
    at := coalesce(p_at, clock_timestamp());

    -- ---------------------------------------------------------------- the record's past
    -- No order that another index offers (`+ 0`): a planner that takes the table for small would read
    -- that one to its end.
    select true into met from routing_assignments a
    where a.record = known and a.object = kind limit 1;
    if met then
        select * into seen from routing_assignments a
        where a.record = known and a.pool_id = pool.id and a.object = kind
        order by a.sequence + 0 desc limit 1;
    end if;
    if seen.status in ('assigned', 'accepted') and not resets
        and p ->> 'hop' is null and seen.created_at > at - make_interval(mins => pool.dedupe_minutes)
    then
        verdict := 'repeated';
        assignment_id := seen.id;
        assigned_to := seen.assigned_to;
        sequence := seen.sequence;
        pool_size := seen.pool_size;
        eligible_size := seen.eligible_size;
        at := seen.created_at;
        method := seen.method;
        epoch := seen.epoch;
        credits := 0;
        users := seen.users;
        reasons := seen.reasons;
        select b.balance into balance from credit_balances b where b.tenant_id = p_tenant;
        select o.state into crm_write from outbox o
        where o.topic = 'crm.owner' and o.id = seen.id;
        crm_write := coalesce(crm_write, 'off');
        return;
    end if;
    if met and before is null then
        select a.assigned_to into before from routing_assignments a
        where a.record = known and a.object = kind and a.status <> 'void'
        order by a.created_at + interval '0' desc limit 1;
    end if;

    -- ---------------------------------------------------------------- reset rules
    if resets then
        if not (p ->> 'reason') = any (pool.reset_reasons) then
            verdict := 'bad_reason';
            return;
        end if;
        if p ->> 'top' is not null then
            select x.user_id into u from routing_members x
            where x.pool_id = pool.id and x.user_key = p ->> 'top';
            if not found then
                verdict := 'not_member';
                return;
            end if;
            r.at_top := u || array_remove(r.at_top, u);
        elsif p ->> 'reason' = 'bad_fit' then
            if seen.status in ('assigned', 'accepted') then
                was := r;
                update routing_assignments a set status = 'bad_fit', ended_at = at,
                    ended_why = 'bad_fit' where a.id = seen.id;
                if seen.method in ('rotation', 'top', 'hold')
                    and give_turn_back(pool.id, seen.assigned_to, seen.epoch) then
                    select * into r from routing_rotations x where x.pool_id = pool.id;
                end if;
            end if;
        else
            r.epoch := r.epoch + 1;
            r.last := 0;
            r.at_top := '{}';
            select array_agg(x.seat order by x.place), array_agg(1 order by x.place)
            into r.waits, r.cursors from routing_members x where x.pool_id = pool.id;
        end if;
    end if;
    if seen.id is not null then
        select coalesce(array_agg(distinct a.assigned_to), '{}') into bad_fit
        from routing_assignments a where a.record = known and a.pool_id = pool.id
            and a.object = kind and a.status = 'bad_fit';
    end if;

    -- ---------------------------------------------------------------- who may
    -- `back_soon`: away, and picked all the same, because the pool holds turns (skip policy `hold`).
    select array_agg(case
            when (p ->> 'exclude_inactive')::boolean
                and not (m.active and m.crm_active is distinct from false) then 'inactive'
            when s.away is not null and s.back is not true then s.away
            when c.cap is not null then c.cap
            when m.user_id = any (bad_fit) then 'bad_fit'
            when p -> 'held' ? m.user_id then 'held_before'
            when s.away is not null then 'back_soon'
        end order by m.place),
        array_agg(m.gaps[r.cursors[m.place]] order by m.place),
        array_agg(m.gaps[case when r.cursors[m.place] = 1 then cardinality(m.gaps)
            else r.cursors[m.place] - 1 end] order by m.place),
        array_agg(cardinality(m.gaps) order by m.place), array_agg(m.user_key order by m.place),
        count(*) filter (where m.active and m.crm_active is distinct from false)
    into reasons, nexts, prevs, rounds, keys, pool_size
    from routing_members m
    cross join lateral (
        select x.away, case when x.away is not null and pool.skip_policy = 'hold'
            then comes_back(m, at, pool.hold_minutes) end
        from (select case when pool.respect_schedule and (m.hours is not null
            or m.holidays <> '{}' or m.out_of_office <> '{}') then schedule_reason(m, at) end
        ) x (away)
    ) s (away, back)
    cross join lateral (
        select case when m.cap_hour is not null or m.cap_day is not null or m.cap_week is not null
            or m.cap_open is not null then cap_reason(m, at) end
    ) c (cap)
    where m.pool_id = pool.id;
    waits := r.waits;
    n := coalesce(cardinality(keys), 0);
    eligible_size := 0;
    for i in 1..n loop
        free[i] := coalesce(reasons[i] = 'back_soon', true);
        if free[i] then
            eligible_size := eligible_size + 1;
            -- A clock that stood still may have stopped on a moment that has passed by now.
            if waits[i] = 0 and i <= r.last then
                waits[i] := 1;
            elsif waits[i] = prevs[i] and i > r.last and r.last > 0 then
                waits[i] := waits[i] - 1;
            end if;
        end if;
    end loop;

    -- ---------------------------------------------------------------- who is next
    if p ->> 'to' is not null then
        method := p ->> 'method';
        assigned_to := p ->> 'to';
    elsif pool.sticky_owner and not resets and p ->> 'hop' is null
        and free[array_position(keys, p ->> 'owner_key')]
    then
        method := 'sticky';
        place := array_position(keys, p ->> 'owner_key');
    elsif eligible_size > 0 then
        method := 'rotation';
        foreach u in array r.at_top loop
            place := array_position(r.users, u);
            if free[place] then
                owed := least(0, waits[place]);
                waits[place] := least(0, (select min(w) from unnest(waits) w)) - 1;
                r.at_top := array_remove(r.at_top, u);
                method := 'top';
                exit;
            end if;
        end loop;
        place := null;
        for i in 1..n loop
            if free[i] and (place is null or waits[i] < waits[place]) then
                place := i;
            end if;
        end loop;
        if reasons[place] = 'back_soon' and method = 'rotation' then
            method := 'hold';
        end if;
    elsif pool.fallback is not null
        and not (p ? 'from' and p ->> 'owner' is not distinct from pool.fallback) then
        -- (Re-routed away from the fallback itself: it would come back for ever.)
        method := 'fallback';
        assigned_to := pool.fallback;
    else
        verdict := 'no_eligible_user';
        users := r.users;
        if was.pool_id is not null then  -- a refusal leaves nothing behind
            update routing_assignments a set status = seen.status, ended_at = null,
                ended_why = null where a.id = seen.id;
            update routing_rotations x set waits = was.waits, cursors = was.cursors,
                turns = was.turns where x.pool_id = pool.id;
        end if;
        credits := 0;
        if not p ? 'free' then
            select x.credits, x.steps into credits, steps from assign_price(p, true) x;
        end if;
        balance := pay_assign(p_tenant, p, credits, steps);
        return;
    end if;
    if was.pool_id is not null then
        -- A timer that fires at this moment waits for the pool: it will find the bad fit.
        delete from timers t where t.key = (select x.key from timers x
            where x.key = 'routing.sla:' || seen.id for update skip locked);
    end if;
    users := r.users;
    if method in ('sticky', 'fallback', 'escalation') then
        waits := r.waits;  -- no step of the rotation
    end if;
    r.waits := waits;  -- what explain recomputes the decision from
    r.sequence := r.sequence + 1;
    if place is not null then
        assigned_to := r.users[place];
        if method <> 'sticky' then
            elapsed := greatest(0, waits[place]);
            for i in 1..n loop
                if free[i] or reasons[i] in ('bad_fit', 'held_before') then
                    waits[i] := waits[i] - elapsed;
                elsif pool.skip_policy = 'catch_up'
                    and reasons[i] in ('out_of_office', 'holiday', 'outside_hours') then
                    waits[i] := greatest(waits[i] - elapsed,
                        least(waits[i], -pool.max_catch_up * pool.ring / rounds[i]));
                end if;
            end loop;
            r.last := place;
        end if;
        if method <> 'sticky' or pool.sticky_counts then
            -- Being at the top is a turn besides one's own, not the turns that others are owed.
            waits[place] := coalesce(owed, waits[place]) + nexts[place];
            r.cursors[place] := r.cursors[place] % rounds[place] + 1;
            r.turns[place] := r.turns[place] + 1;
        end if;
    end if;
    update routing_rotations x set sequence = r.sequence, epoch = r.epoch, last = r.last,
        waits = here.waits, cursors = r.cursors, turns = r.turns, at_top = r.at_top
    where x.pool_id = pool.id;

    -- ---------------------------------------------------------------- the record of it
    credits := 0;
    if not p ? 'free' then
        select x.credits, x.steps into credits, steps from assign_price(p, false) x;
    end if;
    verdict := 'assigned';
    assignment_id := p ->> 'id';
    sequence := r.sequence;
    epoch := r.epoch;
    insert into routing_assignments (tenant_id, id, pool_id, pool, pool_version, sequence, epoch,
        object, sf_id, record, assigned_to, method, prev_owner, reason, exclude_inactive,
        pool_size, eligible_size, users, waits, reasons, hop, rerouted_from, credits, request_id,
        key_id, created_at, breach_at)
    values (p_tenant, assignment_id, pool.id, pool.name, pool.version, sequence, epoch,
        p ->> 'object', p ->> 'sf_id', p ->> 'record', assigned_to, method, before, p ->> 'reason',
        (p ->> 'exclude_inactive')::boolean, pool_size, eligible_size, users, r.waits,
        coalesce(reasons, '{}'), coalesce((p ->> 'hop')::int, 0), p ->> 'from', credits,
        p ->> 'request_id', p ->> 'key_id', at, case when method not in ('fallback', 'escalation')
            then at + make_interval(mins => pool.sla_minutes) end);
    if pool.sla_minutes is not null and method not in ('fallback', 'escalation') then
        insert into timers (key, job, args, due_at) values ('routing.sla:' || assignment_id,
            'routing.sla', jsonb_build_object('tenant', p_tenant, 'assignment', assignment_id),
            at + make_interval(mins => pool.sla_minutes));
    end if;
    perform log_route(p_tenant, at, 'assign', p ->> 'title', p ->> 'sf_id', pool.name, assigned_to,
        before, sequence, p ->> 'reason', p ->> 'request_id', p ->> 'idempotency_key', null);
    crm_write := 'off';
    if (p ->> 'crm')::boolean then
        crm_write := 'pending';
        perform outbox_add(p_tenant, 'crm.owner', assignment_id,
            (p ->> 'object') || ':' || (p ->> 'record'), jsonb_build_object('object', p ->> 'object',
                'record_id', p ->> 'sf_id', 'owner_id', assigned_to));
    end if;

    -- The balance is the last of all locks: what comes after it holds up the whole tenant.
    balance := pay_assign(p_tenant, p, credits, steps);
end $$;

-- The price and its steps, as the receipt shows them. A miss costs what is charged by the query.
create function assign_price(p jsonb, p_miss boolean, out credits numeric, out steps jsonb)
language plpgsql stable as $$
declare
    cost record;
    wanted text;
begin
    credits := 0;
    steps := '[]';
    foreach wanted in array array['assign', 'reset', 'pool_size'] loop
        continue when wanted <> 'assign' and not coalesce(
            (p ->> case wanted when 'reset' then 'reset' else 'size_price' end)::boolean, false);
        select * into cost from price('routing.assign', wanted);
        if cost.credits > 0 and (not p_miss or cost.charge_on = 'query') then
            credits := credits + cost.credits;
            steps := steps || jsonb_build_object('item', wanted, 'credits', cost.credits);
        end if;
    end loop;
end $$;

-- Pays, and says what is left.
create function pay_assign(p_tenant int, p jsonb, p_credits numeric, p_steps jsonb) returns numeric
language plpgsql as $$
declare
    moved record;
begin
    if p_credits = 0 then
        return (select b.balance from credit_balances b where b.tenant_id = p_tenant);
    end if;
    select * into moved from ledger_move(p_tenant, 'charge', -p_credits, p_credits, p ->> 'id',
        jsonb_build_object('operation', 'routing.assign', 'key_id', p ->> 'key_id',
            'tags', p -> 'tags', 'steps', p_steps));
    if moved.verdict <> 'moved' then
        raise exception using errcode = 'LN402', message = 'not enough credits',
            detail = jsonb_build_object('verdict', moved.verdict, 'required', p_credits,
                'remaining', moved.balance, 'cap', moved.cap)::text;
    end if;
    return moved.balance;
end $$;
