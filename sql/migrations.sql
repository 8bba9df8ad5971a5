-- The migrations that this database has applied.

-- name: table
create table if not exists public.throughline_migration (
    number     integer     not null primary key,
    name       text        not null,
    digest     text        not null,
    applied_at timestamptz not null default now()
)

-- name: lock
-- One process migrates at a time. Only the owner can take this lock.
lock table public.throughline_migration in exclusive mode

-- name: applied
select number, name, digest from public.throughline_migration order by number

-- name: record
insert into public.throughline_migration (number, name, digest)
values (%(number)s, %(name)s, %(digest)s)

-- name: safety
-- Settings that are off. With one of these settings off, PostgreSQL can lose an acknowledged
-- commit.
select name from pg_settings
where name in ('fsync', 'full_page_writes', 'synchronous_commit') and setting = 'off'
