-- Write the audit, and read it.

-- name: add
-- Add a batch. A batch whose outcome was unknown is added again; its rows are there only once.
insert into app.audit (
    tenant_id, request_id, at, key_id, user_id, operation, project_id, session_id, message_id,
    address, user_agent, status, code, milliseconds
)
select
    tenant_id, request_id, at, key_id, user_id, operation, project_id, session_id, reply_id,
    address, user_agent, status, code, milliseconds
from json_to_recordset(%(entries)s::json) as entry (
    tenant_id text, request_id text, at timestamptz, key_id text, user_id text, operation text,
    project_id text, session_id text, reply_id text, address text, user_agent text,
    status smallint, code text, milliseconds integer
)
on conflict do nothing

-- name: page
-- Newest first. A request that posted a message shows what its reply was billed.
select
    request_id, at, key_id, audit.user_id, operation, audit.project_id, audit.session_id,
    audit.message_id as reply_id, address, user_agent, status, code, milliseconds, billed_seconds,
    input_tokens + output_tokens + cache_read_tokens + cache_write_tokens as tokens_used
from app.audit
left join app.consumption
    on consumption.tenant_id = audit.tenant_id
        and consumption.message_id = audit.message_id
        and audit.operation in ('postChatPlan', 'postSessionMessage')
where audit.tenant_id = %(tenant_id)s
    and request_id < %(before)s
    and (%(user_id)s::text is null or audit.user_id = %(user_id)s)
    and (%(project_id)s::text is null or audit.project_id = %(project_id)s)
    and (%(operation)s::text is null or audit.operation = %(operation)s)
order by request_id desc
limit %(limit)s

-- name: expire
select app.expire_audit(%(days)s, %(limit)s)
