-- The nonces of signed writes: a signature is taken once. The table is logged, because one that a
-- crash empties would open the window again.

create table app.nonce (
    key_id  text        not null collate "C",
    nonce   text        not null collate "C",
    used_at timestamptz not null default now(),
    constraint nonce_is_used_once primary key (key_id, nonce)
);
create index nonce_age on app.nonce (used_at);

comment on table app.nonce is 'Signatures of writes that were used, for as long as they are valid.';

grant select, insert, delete on app.nonce to throughline_service;
