-- A consumer of a feed gets each event with the position of the feed's previous event. These
-- statements find the previous event of the first event on a page.

-- name: tenant_last
select app.cursor_at(app.tenant_last(%(tenant_id)s, %(upto)s, %(types)s::text[]))

-- name: project_last
select app.cursor_at(
    app.project_last(%(tenant_id)s, %(project_id)s, %(upto)s, %(types)s::text[])
)
