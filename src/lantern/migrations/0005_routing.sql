-- Routing: pools, their members, the rotation of each pool, and every assignment ever made.
-- docs/routing.md says how turns are given, docs/adr/0011 why so.

create table routing_pools (
    tenant_id int not null references tenants,
    id text not null,
    name text not null,
    version int not null default 1,
    fallback text,
    fallback_kind text check (fallback_kind in ('user', 'queue')),
    skip_policy text not null default 'forfeit'
        check (skip_policy in ('forfeit', 'catch_up', 'hold')),
    max_catch_up int not null default 3,
    hold_minutes int not null default 60,
    respect_schedule boolean not null default true,
    sticky_owner boolean not null default false,
    sticky_counts boolean not null default false,
    dedupe_minutes int not null default 1440,
    reset_reasons text[],
    sla_minutes int,
    sla_on_breach text check (sla_on_breach in ('reassign', 'escalate', 'queue')),
    sla_max_hops int not null default 3,
    sla_escalate_to text,
    sla_refund_turn boolean not null default false,
    ring bigint not null,                 -- length of one round, the sum of each member's gaps
    activity_at timestamptz,              -- when the CRM was last asked who is active
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    primary key (tenant_id, id)
);
create unique index routing_pools_name on routing_pools (tenant_id, name) where deleted_at is null;

create table routing_members (
    tenant_id int not null,
    pool_id text not null,
    user_id text not null,                -- as it was given, and as answers give it
    user_key text not null,               -- what is compared: 15-character ids brought to 18
    name text,
    place int not null,                   -- 1, 2, ...: the base order, breaks ties
    active boolean not null default true,
    weight int not null default 1 check (weight between 1 and 100),
    "order" int not null default 0,
    timezone text not null default 'UTC',
    hours int4multirange,                 -- working minutes of the local week, Monday 00:00 = 0
    holidays date[] not null default '{}',
    out_of_office tstzmultirange not null default '{}',
    cap_hour int,
    cap_day int,
    cap_week int,
    cap_open int,
    credit_back boolean not null default true,
    crm_active boolean,                   -- what the CRM said last; null: never asked
    gaps bigint[] not null,               -- from each of its places on the ring to its next one
    seat bigint not null,                 -- its first place on the ring
    primary key (tenant_id, pool_id, user_id),
    unique (tenant_id, pool_id, user_key),
    foreign key (tenant_id, pool_id) references routing_pools
);

-- The hot row: one update an assignment. The arrays are aligned, in base order.
create table routing_rotations (
    tenant_id int not null,
    pool_id text not null,
    sequence bigint not null default 0,
    epoch int not null default 0,
    last int not null default 0,          -- place of the member picked last; 0: nobody yet
    users text[] not null,
    waits bigint[] not null,              -- ring units until the member's next turn
    cursors int[] not null,               -- which of its gaps comes next, from 1
    turns bigint[] not null,              -- how many it has had
    at_top text[] not null default '{}',  -- placed at the top and not served yet, newest first
    primary key (tenant_id, pool_id),
    foreign key (tenant_id, pool_id) references routing_pools
) with (fillfactor = 50);

-- Every decision with what it was made from: `users`, `waits`, `reasons` are aligned, in base order.
-- No reference to `tenants`: its check locks that row, and whoever assigns meets there.
create table routing_assignments (
    tenant_id int not null,
    id text not null,
    pool_id text not null,
    pool text not null,
    pool_version int not null,
    sequence bigint not null,
    epoch int not null,
    object text not null,
    sf_id text not null,                  -- as it was given
    record text not null,                 -- what is compared: 15-character ids brought to 18
    assigned_to text not null,
    method text not null check (method in ('rotation', 'top', 'sticky', 'hold', 'fallback',
        'escalation')),
    status text not null default 'assigned'
        check (status in ('assigned', 'accepted', 'void', 'bad_fit', 'rerouted')),
    prev_owner text,
    reason text,
    exclude_inactive boolean not null,
    pool_size int not null,
    eligible_size int not null,
    users text[] not null,
    waits bigint[] not null,              -- before the pick, after reset rules
    reasons text[] not null,              -- why not; null: eligible
    hop int not null default 0,           -- how often the SLA has moved it on
    rerouted_from text,
    credits numeric(18, 4) not null,
    request_id text,
    key_id text,
    created_at timestamptz not null,
    accepted_at timestamptz,
    ended_at timestamptz,                 -- voided, found a bad fit or re-routed
    ended_why text,
    breach_at timestamptz,
    primary key (tenant_id, id),
    unique (tenant_id, pool_id, sequence)
);
-- By hash: every other index begins with the tenant, and a planner that takes the table for empty
-- finds them all as good as one that names the record.
create index routing_assignments_record on routing_assignments using hash (record);
create index routing_assignments_user
    on routing_assignments (tenant_id, pool_id, assigned_to, created_at desc);
create index routing_assignments_time on routing_assignments (tenant_id, created_at desc, id desc);

do $$
declare
    t text;
begin
    foreach t in array array['routing_pools', 'routing_members', 'routing_rotations',
        'routing_assignments']
    loop
        execute format('alter table %I enable row level security', t);
        execute format('alter table %I force row level security', t);
        execute format('create policy tenant on %I to lantern_app using (tenant_id = tenant())', t);
        execute format('create policy system on %I to lantern_system using (true)', t);
        execute format('grant select, insert, update, delete on %I to lantern_app, lantern_system', t);
    end loop;
end $$;
revoke delete on routing_assignments from lantern_app;
