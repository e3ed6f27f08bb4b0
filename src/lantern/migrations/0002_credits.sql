-- Credits: prices, caps, receipts. `ledger_move` is the one place that moves a balance.
-- docs/credits.md says what a caller sees of it.

-- ------------------------------------------------------------------ receipts
-- `used` is what a row adds to the usage: a charge's price, what a settlement came to, else 0.
-- So the sum of `amount` is the change of the balance, the sum of `used` what was spent.
alter table credit_ledger
    add workflow_id text,
    add steps jsonb not null default '[]',
    add used numeric(18, 4) not null default 0,
    alter created_at set default clock_timestamp();

-- The table's owner is bound by row-level security too; this role sees every tenant.
set local role lantern_system;
update credit_ledger l set used = case when l.kind = 'charge' then -l.amount else
    -(select sum(r.amount) from credit_ledger r
      where r.tenant_id = l.tenant_id and r.ref = l.ref and r.kind in ('reserve', 'settle')) end
where l.kind in ('charge', 'settle');
reset role;

-- Usage over any time reads the index alone.
create index credit_ledger_usage on credit_ledger (tenant_id, created_at) include (used);
drop index credit_ledger_tenant_id_created_at_idx;

-- A reservation for a step that may turn out free.
alter table credit_reservations drop constraint credit_reservations_amount_check;
alter table credit_reservations add constraint credit_reservations_amount_check check (amount >= 0);

-- ------------------------------------------------------------------ prices
-- What this version charges, and, where the operator wants it otherwise, `own_*`. No tenant:
-- these hold for all of them. Only the command line writes here.
create table tariff (
    operation text not null,
    item text not null,
    credits numeric(18, 4) not null check (credits between 0 and 1000000),
    charge_on text not null default 'success' check (charge_on in ('success', 'query')),
    own_credits numeric(18, 4) check (own_credits between 0 and 1000000),
    own_charge_on text check (own_charge_on in ('success', 'query')),
    description text not null default '',
    primary key (operation, item)
);
grant select on tariff to lantern_app;
grant select, insert, update, delete on tariff to lantern_system;

insert into tariff (operation, item, credits, description) values
    ('routing.assign', 'assign', 1, 'A record gets its owner.'),
    ('routing.assign', 'reset', 1, 'The call carries reset rules.'),
    ('routing.assign', 'pool_size', 0.5, 'The pool''s membership was counted anew.');

create table tenant_tariff (
    tenant_id int not null references tenants,
    operation text not null,
    item text not null,
    credits numeric(18, 4) not null check (credits between 0 and 1000000),
    charge_on text not null check (charge_on in ('success', 'query')),
    updated_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, operation, item),
    foreign key (operation, item) references tariff
);

-- The price that holds for the tenant of this transaction; nulls where there is none.
create function price(p_operation text, p_item text, out credits numeric, out charge_on text)
language plpgsql stable as $$
begin
    select t.credits, t.charge_on into credits, charge_on from tenant_tariff t
    where t.tenant_id = tenant() and t.operation = p_operation and t.item = p_item;
    if not found then
        select coalesce(t.own_credits, t.credits), coalesce(t.own_charge_on, t.charge_on)
        into credits, charge_on from tariff t
        where t.operation = p_operation and t.item = p_item;
    end if;
end $$;

-- ------------------------------------------------------------------ caps
-- `subject`: '' for the account, a key's id, or 'key=value' of a tag; no two kinds can be equal.
create table credit_caps (
    tenant_id int not null references tenants,
    id text not null,
    scope text not null check (scope in ('account', 'key', 'tag')),
    subject text not null,
    period text not null check (period in ('day', 'month', 'total')),
    credits numeric(18, 4) not null check (credits >= 0),
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, id),
    unique (tenant_id, subject, period)
);

-- What counts against a cap in one period (UTC): spent, and set aside in open reservations.
create table credit_cap_uses (
    tenant_id int not null,
    cap_id text not null,
    starts timestamptz not null,
    used numeric(18, 4) not null,
    primary key (tenant_id, cap_id, starts),
    foreign key (tenant_id, cap_id) references credit_caps on delete cascade
) with (fillfactor = 50);

-- Tenants without caps pay nothing for them: the flag comes with the balance.
alter table credit_balances add capped boolean not null default false;
alter table credit_balances set (fillfactor = 50);

create function period_start(p_period text, p_at timestamptz) returns timestamptz
language sql stable as $$
    select case p_period when 'total' then timestamptz '1970-01-01 00:00:00+00'
        else date_trunc(p_period, p_at, 'UTC') end
$$;

-- A new cap starts with what its running period has seen already. Call with the balance locked.
create function count_cap(p_tenant int, p_cap text) returns void language plpgsql as $$
begin
    insert into credit_cap_uses (tenant_id, cap_id, starts, used)
    select c.tenant_id, c.id, s.starts, coalesce((
        select sum(-l.amount) from credit_ledger l
        where l.tenant_id = c.tenant_id and l.kind <> 'grant' and l.created_at >= s.starts
            and case c.scope
                when 'key' then l.key_id = c.subject
                when 'tag' then l.tags ->> split_part(c.subject, '=', 1)
                    = substr(c.subject, strpos(c.subject, '=') + 1)
                else true end
            -- A settlement belongs to the period of its reservation, a refund to its charge's.
            and (l.kind in ('charge', 'reserve') or exists (
                select from credit_ledger r where r.tenant_id = l.tenant_id and r.ref = l.ref
                    and r.kind in ('reserve', 'charge') and r.created_at >= s.starts))
    ), 0)
    from credit_caps c, lateral (select period_start(c.period, c.created_at) as starts) s
    where c.tenant_id = p_tenant and c.id = p_cap;
end $$;

-- The cap that `p_by` more would pass in the period of `p_at`, the narrowest first; null: none.
-- p_subjects: what the use is of: '' (the account), its key, its tags as 'key=value'.
create function full_cap(
    p_tenant int, p_subjects text[], p_by numeric, p_at timestamptz
) returns jsonb language plpgsql stable as $$
declare
    found_cap jsonb;
begin
    select jsonb_build_object('id', c.id, 'scope', c.scope, 'subject', nullif(c.subject, ''),
        'period', c.period, 'credits', trim_scale(c.credits),
        'used', trim_scale(coalesce(u.used, 0)))
    into found_cap
    from credit_caps c left join credit_cap_uses u on u.tenant_id = c.tenant_id
        and u.cap_id = c.id and u.starts = period_start(c.period, p_at)
    where c.tenant_id = p_tenant and c.subject = any (p_subjects)
        and p_at >= period_start(c.period, c.created_at)
        and coalesce(u.used, 0) + p_by > c.credits
    order by c.scope = 'key' desc, c.scope = 'tag' desc, c.credits limit 1;
    return found_cap;
end $$;

-- Counts `p_by` against every cap that it meets. Call with the balance locked.
create function count_use(
    p_tenant int, p_subjects text[], p_by numeric, p_at timestamptz
) returns void language plpgsql as $$
begin
    insert into credit_cap_uses as u (tenant_id, cap_id, starts, used)
    select c.tenant_id, c.id, period_start(c.period, p_at), p_by from credit_caps c
    where c.tenant_id = p_tenant and c.subject = any (p_subjects)
        and p_at >= period_start(c.period, c.created_at)
    on conflict (tenant_id, cap_id, starts) do update set used = u.used + excluded.used;
end $$;

-- ------------------------------------------------------------------ the ledger
-- One movement: locks the balance, checks it and the caps, adds the row, moves the balance.
-- p_amount is signed. p_use: {"operation","run_id","workflow_id","key_id","tags":{},"steps":[]};
-- a settlement and a release take theirs from the reservation (or the charge that is given back),
-- but for steps of their own.
-- verdict: moved | repeated (amount and balance are the first row's) | account_balance | cap |
-- no_tenant. A charge of nothing adds no row.
create function ledger_move(
    p_tenant int, p_kind text, p_amount numeric, p_used numeric, p_ref text, p_use jsonb,
    out verdict text, out amount numeric, out balance numeric, out cap jsonb
) language plpgsql as $$
declare
    has_caps boolean;
    at timestamptz;
    counts_at timestamptz;
    tags jsonb;
    subjects text[];
    past record;
begin
    p_amount := round(p_amount, 4);  -- before it is added to anything
    p_used := round(p_used, 4);
    select b.balance, b.capped into balance, has_caps from credit_balances b
    where b.tenant_id = p_tenant for update;
    if not found then
        verdict := 'no_tenant';
        return;
    end if;
    at := clock_timestamp();
    counts_at := at;
    if p_kind = 'charge' and p_amount = 0 then
        verdict := 'moved';
        amount := 0;
        return;
    elsif p_kind in ('settle', 'release') then
        select l.created_at, jsonb_build_object('operation', l.operation, 'run_id', l.run_id,
            'workflow_id', l.workflow_id, 'key_id', l.key_id, 'tags', l.tags,
            'steps', coalesce(p_use -> 'steps', l.steps))
        into counts_at, p_use from credit_ledger l
        where l.tenant_id = p_tenant and l.ref = p_ref and l.kind in ('reserve', 'charge');
    end if;
    if has_caps or balance + p_amount < 0 then
        -- What was paid before is answered, also where it could not be paid again.
        select l.amount, l.balance_after into past from credit_ledger l
        where l.tenant_id = p_tenant and l.ref = p_ref and l.kind = p_kind;
        if found then
            verdict := 'repeated';
            amount := past.amount;
            balance := past.balance_after;
            return;
        elsif balance + p_amount < 0 then
            verdict := 'account_balance';
            return;
        end if;
    end if;
    tags := coalesce(p_use -> 'tags', '{}');
    if has_caps and p_kind <> 'grant' then
        subjects := array['', p_use ->> 'key_id'] || array(
            select t.key || '=' || t.value from jsonb_each_text(tags) t);
        if p_amount < 0 then
            cap := full_cap(p_tenant, subjects, -p_amount, counts_at);
            if cap is not null then
                verdict := 'cap';
                return;
            end if;
        end if;
        perform count_use(p_tenant, subjects, -p_amount, counts_at);
    end if;
    insert into credit_ledger as l (tenant_id, kind, amount, used, balance_after, ref, operation,
        run_id, workflow_id, key_id, tags, steps, created_at)
    values (p_tenant, p_kind, p_amount, p_used, balance + p_amount, p_ref,
        p_use ->> 'operation', p_use ->> 'run_id', p_use ->> 'workflow_id', p_use ->> 'key_id',
        tags, coalesce(p_use -> 'steps', '[]'), at)
    on conflict on constraint credit_ledger_tenant_id_ref_kind_key do nothing
    returning l.amount, l.balance_after into amount, balance;
    if not found then
        select l.amount, l.balance_after into amount, balance from credit_ledger l
        where l.tenant_id = p_tenant and l.ref = p_ref and l.kind = p_kind;
        verdict := 'repeated';
        return;
    end if;
    update credit_balances b set balance = ledger_move.balance,
        granted = b.granted + case when p_kind = 'grant' then p_amount else 0 end
    where b.tenant_id = p_tenant;
    verdict := 'moved';
end $$;

-- Sets credits aside; a repeated call returns the first reservation, also when it is closed.
create function ledger_reserve(
    p_tenant int, p_amount numeric, p_ref text, p_ttl interval, p_use jsonb,
    out verdict text, out amount numeric, out balance numeric, out cap jsonb,
    out expires_at timestamptz, out is_open boolean
) language plpgsql as $$
begin
    select m.* into verdict, amount, balance, cap
    from ledger_move(p_tenant, 'reserve', -p_amount, 0, p_ref, p_use) m;
    if verdict = 'moved' then
        insert into credit_reservations as r
            (tenant_id, ref, amount, operation, run_id, expires_at)
        values (p_tenant, p_ref, p_amount, p_use ->> 'operation', p_use ->> 'run_id',
            clock_timestamp() + p_ttl)
        returning r.expires_at, true into expires_at, is_open;
    elsif verdict = 'repeated' then
        select r.expires_at, r.closed_at is null into expires_at, is_open
        from credit_reservations r where r.tenant_id = p_tenant and r.ref = p_ref;
    end if;
end $$;

-- Closes a reservation once: 'settle' pays p_actual and gives the rest back, 'release' gives back
-- all. p_expired: only if its time is over. p_steps: what was paid for, null: as reserved.
-- verdict besides those of ledger_move: closed (otherwise than p_kind) | open (not expired) |
-- no_reservation.
create function ledger_close(
    p_tenant int, p_kind text, p_ref text, p_actual numeric, p_steps jsonb, p_expired boolean,
    out verdict text, out amount numeric, out balance numeric, out cap jsonb,
    out reserved numeric
) language plpgsql as $$
declare
    held credit_reservations;
    past record;
begin
    -- The balance's lock first, as everywhere; then the reservation's.
    perform from credit_balances b where b.tenant_id = p_tenant for update;
    select * into held from credit_reservations r
    where r.tenant_id = p_tenant and r.ref = p_ref for update;
    if not found then
        verdict := 'no_reservation';
        return;
    end if;
    reserved := held.amount;
    if held.closed_at is not null then
        select l.kind, l.amount, l.balance_after into past from credit_ledger l
        where l.tenant_id = p_tenant and l.ref = p_ref and l.kind in ('settle', 'release');
        verdict := case when past.kind = p_kind then 'repeated' else 'closed' end;
        amount := past.amount;
        balance := past.balance_after;
    elsif p_expired and held.expires_at >= clock_timestamp() then
        verdict := 'open';
    else
        select m.* into verdict, amount, balance, cap
        from ledger_move(p_tenant, p_kind, reserved - p_actual, p_actual, p_ref,
            case when p_steps is not null then jsonb_build_object('steps', p_steps) end) m;
        if verdict = 'moved' then
            update credit_reservations r set closed_at = clock_timestamp()
            where r.tenant_id = p_tenant and r.ref = p_ref;
        end if;
    end if;
end $$;

-- ------------------------------------------------------------------ row-level security
do $$
declare
    t text;
begin
    foreach t in array array['tenant_tariff', 'credit_caps', 'credit_cap_uses']
    loop
        execute format('alter table %I enable row level security', t);
        execute format('alter table %I force row level security', t);
        execute format('create policy tenant on %I to lantern_app using (tenant_id = tenant())', t);
        execute format('create policy system on %I to lantern_system using (true)', t);
        execute format('grant select, insert, update, delete on %I to lantern_app, lantern_system', t);
    end loop;
end $$;
