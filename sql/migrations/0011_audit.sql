-- Who asked for what, from where, and what came of it: kept beside the log, for what is refused
-- appends nothing there. Never what was said.

create table app.audit (
    tenant_id    text        not null collate "C",
    request_id   text        not null collate "C",
    at           timestamptz not null,
    key_id       text        not null,
    user_id      text                 collate "C",
    operation    text        not null,
    project_id   text                 collate "C",
    session_id   text,
    message_id   text                 collate "C",
    address      text,
    user_agent   text,
    status       smallint    not null,
    code         text,
    milliseconds integer     not null,
    constraint audit_pkey primary key (tenant_id, request_id)
);
create index audit_of_user on app.audit (tenant_id, user_id, request_id);
create index audit_of_project on app.audit (tenant_id, project_id, request_id);

comment on table app.audit is
    'Every request that a known key or token was brought with. Rows are never changed or removed.';
comment on column app.audit.request_id is
    'As the answer and the service''s log have it: a UUIDv7, so that its order is that of time.';
comment on column app.audit.at is 'When it came, by the clock of the server that took it.';
comment on column app.audit.user_id is
    'Who acted, or whom it was about; null: the tenant''s own service, about nobody.';
comment on column app.audit.message_id is 'The reply that it was about.';
comment on column app.audit.address is 'Where it came from.';
comment on column app.audit.status is 'What was answered: the status of HTTP.';
comment on column app.audit.code is 'Why it was refused, if it was.';
comment on column app.audit.milliseconds is 'Until the answer began.';

select app.keep_tenants_apart('app.audit');
-- The statement that adds a row looks for its key.
grant insert, select on app.audit to throughline_service;

create function app.refuse_audit_change() returns trigger
language plpgsql as $$
begin
    raise exception 'the audit is never changed' using errcode = 'TL002';
end
$$;

create trigger audit_is_append_only
before update or delete or truncate on app.audit
for each statement execute function app.refuse_audit_change();
