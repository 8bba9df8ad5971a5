-- How people sign in with a browser: a link that works once becomes a browser session.
--
-- Both are kept beside the log. They say nothing of a project, and end after hours. Only digests of
-- their secrets are stored.

create table app.sign_in_link (
    tenant_id   text        not null collate "C",
    code_digest text        not null collate "C",
    key_id      text        not null,
    user_id     text        not null collate "C",
    project_id  text                 collate "C",
    created_at  timestamptz not null default now(),
    expires_at  timestamptz not null,
    constraint sign_in_link_pkey primary key (code_digest)
);
create index sign_in_link_of_user on app.sign_in_link (tenant_id, user_id, created_at);
create index sign_in_link_expiry on app.sign_in_link (expires_at);

comment on table app.sign_in_link is 'Links that sign a user in, until they are used or expire.';
comment on column app.sign_in_link.code_digest is 'SHA-256 of the code in the link.';
comment on column app.sign_in_link.key_id is 'The key that asked for the link.';
comment on column app.sign_in_link.user_id is 'The user that the link signs in.';
comment on column app.sign_in_link.project_id is 'The one project to sign in to; null: all of the user.';


create table app.browser_session (
    tenant_id          text        not null collate "C",
    browser_session_id text        not null collate "C",
    secret_digest      text        not null collate "C",
    key_id             text        not null,
    user_id            text        not null collate "C",
    project_id         text                 collate "C",
    created_at         timestamptz not null default now(),
    last_used_at       timestamptz not null default now(),
    expires_at         timestamptz not null,
    constraint browser_session_pkey primary key (tenant_id, browser_session_id),
    constraint browser_session_has_its_own_secret unique (secret_digest)
);
create index browser_session_of_user on app.browser_session (tenant_id, user_id, created_at);
create index browser_session_expiry on app.browser_session (expires_at);

comment on table app.browser_session is 'The browsers in which a user is signed in.';
comment on column app.browser_session.secret_digest is 'SHA-256 of the secret in the cookie.';
comment on column app.browser_session.key_id is 'The key that signs the tokens of the browser.';
comment on column app.browser_session.project_id is 'The one project that it is for; null: all of the user.';
comment on column app.browser_session.last_used_at is 'When the browser last got a token.';

select app.keep_tenants_apart('app.sign_in_link');
select app.keep_tenants_apart('app.browser_session');
-- A link and a browser session are found by their digest before their tenant is known.
grant select, insert, delete on app.sign_in_link to throughline_service;
grant select, insert, update, delete on app.browser_session to throughline_service;
