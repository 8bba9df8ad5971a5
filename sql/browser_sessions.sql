-- Links that sign a user in, and the browser sessions that are made of them.

-- name: add_link
-- Also deletes the user's oldest links, so that no user has too many.
with surplus as (
    delete from app.sign_in_link
    where code_digest in (
        select code_digest from app.sign_in_link
        where tenant_id = %(tenant_id)s and user_id = %(user_id)s
        order by created_at desc
        offset %(most)s - 1
    )
)
insert into app.sign_in_link (tenant_id, code_digest, key_id, user_id, project_id, expires_at)
values (
    %(tenant_id)s, %(code_digest)s, %(key_id)s, %(user_id)s, %(project_id)s,
    now() + make_interval(secs => %(seconds)s)
)
returning expires_at

-- name: link
select tenant_id, key_id, user_id, project_id, null as browser_session_id
from app.sign_in_link
where code_digest = %(code_digest)s and expires_at > now()

-- name: redeem
-- Of requests that race with one code, the first deletes the link, and the others find no row. Also
-- deletes the user's oldest browser sessions, so that no user has too many.
with used as (
    delete from app.sign_in_link
    where code_digest = %(code_digest)s and expires_at > now()
    returning tenant_id, key_id, user_id, project_id
),
surplus as (
    delete from app.browser_session
    where (tenant_id, browser_session_id) in (
        select tenant_id, browser_session_id
        from app.browser_session
        join used using (tenant_id, user_id)
        order by created_at desc
        offset %(most)s - 1
    )
)
insert into app.browser_session (
    tenant_id, browser_session_id, secret_digest, key_id, user_id, project_id, expires_at
)
select
    tenant_id, %(browser_session_id)s, %(secret_digest)s, key_id, user_id, project_id,
    now() + make_interval(secs => %(seconds)s)
from used
returning browser_session_id, created_at, last_used_at, expires_at

-- name: use
update app.browser_session
set last_used_at = now()
where secret_digest = %(secret_digest)s and expires_at > now()
returning tenant_id, key_id, user_id, project_id, browser_session_id

-- name: of_user
-- Newest first. A token for one project has `project_id`, and finds what is for this project.
select browser_session_id, created_at, last_used_at, expires_at
from app.browser_session
where tenant_id = %(tenant_id)s
    and user_id = %(user_id)s
    and (%(project_id)s::text is null or project_id = %(project_id)s)
    and expires_at > now()
order by created_at desc

-- name: end
-- Returns one row if there was such a browser session, and no row otherwise.
delete from app.browser_session
where tenant_id = %(tenant_id)s
    and browser_session_id = %(browser_session_id)s
    and user_id = %(user_id)s
    and (%(project_id)s::text is null or project_id = %(project_id)s)
    and expires_at > now()
returning true

-- name: expire
with links as (
    delete from app.sign_in_link
    where code_digest in (
        select code_digest from app.sign_in_link where expires_at <= now() limit %(limit)s
    )
    returning 1
),
browser_sessions as (
    delete from app.browser_session
    where (tenant_id, browser_session_id) in (
        select tenant_id, browser_session_id
        from app.browser_session
        where expires_at <= now()
        limit %(limit)s
    )
    returning 1
)
select (select count(*) from links) + (select count(*) from browser_sessions)
