-- A settlement and a release are told of by their reservation, also where a charge has the same ref:
-- `ledger_move` of 0002 took either of the two, and so the wrong tags, key and day for caps.

-- One movement: locks the balance, checks it and the caps, adds the row, moves the balance.
-- p_amount is signed. p_use: {"operation","run_id","workflow_id","key_id","tags":{},"steps":[]};
-- a settlement and a release take theirs from the reservation (or the charge that is given back),
-- but for steps of their own.
-- verdict: moved | repeated (amount and balance are the first row's) | account_balance | cap |
-- no_tenant. A charge of nothing adds no row.
create or replace function ledger_move(
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
        where l.tenant_id = p_tenant and l.ref = p_ref and l.kind in ('reserve', 'charge')
        order by l.kind desc limit 1;  -- the reservation before a charge
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
