-- What a feed tells beside its events: the place of the one before.

-- name: tenant_last
select app.tenant_last(%(tenant_id)s, %(upto)s, %(types)s::text[])

-- name: project_last
select app.project_last(%(tenant_id)s, %(project_id)s, %(upto)s, %(types)s::text[])
