-- The steps that this database has taken.

-- name: table
create table if not exists public.throughline_migration (
    number     integer     not null primary key,
    name       text        not null,
    digest     text        not null,
    applied_at timestamptz not null default now()
)

-- name: lock
select pg_advisory_xact_lock(hashtextextended('throughline.migrate', 0))

-- name: applied
select number, name, digest from public.throughline_migration order by number

-- name: record
insert into public.throughline_migration (number, name, digest)
values (%(number)s, %(name)s, %(digest)s)

-- name: safety
-- The settings without which a commit that was acknowledged can be lost.
select name from pg_settings
where name in ('fsync', 'full_page_writes', 'synchronous_commit') and setting = 'off'
