-- Which text of each SQL function this database has.

-- name: table
create table if not exists public.throughline_function (
    name         text        not null primary key,
    digest       text        not null,
    installed_at timestamptz not null default now()
)

-- name: installed
-- A migration may have dropped a function. That function is not installed.
select name, digest
from public.throughline_function
where exists (
    select from pg_proc
    where pronamespace = 'app'::regnamespace and proname = throughline_function.name
)

-- name: unchecked
-- A function may name a table or a function that does not exist yet.
set local check_function_bodies = off

-- name: signatures
-- The number of functions of that name. Two functions differ in the types of their parameters.
select count(*) from pg_proc where pronamespace = 'app'::regnamespace and proname = %(name)s

-- name: record
insert into public.throughline_function (name, digest)
values (%(name)s, %(digest)s)
on conflict (name) do update set digest = excluded.digest, installed_at = now()
