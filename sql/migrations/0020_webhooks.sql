-- Webhooks: where events of a tenant are sent, how far each webhook is, and what was not taken.
--
-- They are kept beside the log. The secret is here as it is, because each delivery is signed with it.

create table app.webhook (
    tenant_id          text        not null collate "C",
    webhook_id         text        not null collate "C",
    url                text        not null,
    types              text[],
    description        text,
    is_enabled         boolean     not null default true,
    secret             text        not null,
    old_secret         text,
    old_secret_until   timestamptz,
    created_at         timestamptz not null default now(),
    revision           bigint      not null default 1,
    lease_id           bigint,
    position           bigint      not null,
    tries              integer     not null default 0,
    next_try_at        timestamptz,
    error              text,
    constraint webhook_pkey primary key (tenant_id, webhook_id)
);

comment on table app.webhook is 'Where events of a tenant are sent.';
comment on column app.webhook.types is 'The types of events that are sent; null: all.';
comment on column app.webhook.secret is 'What signs the deliveries.';
comment on column app.webhook.old_secret is 'The secret before the last rotation; it signs too until old_secret_until.';
comment on column app.webhook.revision is 'Grows with each change that the deliveries must obey.';
comment on column app.webhook.lease_id is 'The process that delivers, by its lease.';
comment on column app.webhook.position is 'The last event that was taken or given up.';
comment on column app.webhook.tries is 'How often the next event was sent in vain.';
comment on column app.webhook.next_try_at is 'No try before this time.';
comment on column app.webhook.error is 'What went wrong at the last try; null after an event that was taken.';


create table app.webhook_dead_letter (
    tenant_id  text        not null collate "C",
    webhook_id text        not null collate "C",
    position   bigint      not null,
    type       text        not null collate "C",
    error      text        not null,
    given_up_at timestamptz not null default now(),
    is_wanted  boolean     not null default false,
    constraint webhook_dead_letter_pkey primary key (tenant_id, webhook_id, position),
    constraint webhook_dead_letter_has_a_webhook foreign key (tenant_id, webhook_id)
        references app.webhook on delete cascade
);

comment on table app.webhook_dead_letter is 'Events that a webhook did not take after all tries, the newest.';
comment on column app.webhook_dead_letter.is_wanted is 'Whether the event is to be sent once more.';

select app.keep_tenants_apart('app.webhook');
select app.keep_tenants_apart('app.webhook_dead_letter');
grant select, insert, update, delete on app.webhook to throughline_service;
grant select, insert, update, delete on app.webhook_dead_letter to throughline_service;
