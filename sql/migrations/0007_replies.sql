-- Replies while they are written: what was shown of each, and which processes are alive.

create table app.reply_chunk (
    message_id text        not null collate "C",
    n          integer     not null,
    tenant_id  text        not null collate "C",
    epoch      bigint      not null,
    stored_at  timestamptz not null default statement_timestamp(),
    frame      bytea,
    constraint reply_chunk_is_taken_once primary key (message_id, n)
);
comment on table app.reply_chunk is
    'The events of replies as readers are sent them, each stored before it is sent. Not part of the '
    'log: a day after its end, a reply is read from there alone.';
comment on column app.reply_chunk.message_id is
    'The reply: a UUIDv7, so that the order of the key is the order of age.';
comment on column app.reply_chunk.n is
    'The place in the reply: 1, 2, 3 ... without gaps. Whoever takes the next one has the reply; '
    'who had it before is refused there by the key.';
comment on column app.reply_chunk.tenant_id is 'Who the reply belongs to.';
comment on column app.reply_chunk.epoch is 'The lease under which it was stored.';
comment on column app.reply_chunk.frame is
    'The event in the format of server-sent events; null where the final one will stand, which is '
    'made from the log.';
grant select, insert, delete on app.reply_chunk to throughline_service;

create table app.lease (
    epoch bigint      not null generated always as identity,
    until timestamptz not null,
    constraint lease_pkey primary key (epoch)
) with (fillfactor = 50);
comment on table app.lease is 'The processes that write replies; each renews its lease, or is dead.';
comment on column app.lease.epoch is 'The life of one process: a restarted one gets another.';
comment on column app.lease.until is 'Alive until then, by the clock of the database.';
grant select, insert, update, delete on app.lease to throughline_service;
