-- The runs, for the views of other read models. See app.builds_as_they_are.
create or replace function app.runs_as_they_are() returns table (
    tenant_id text, run_id text, status text
)
language sql stable as $$
    select tenant_id, run_id, status
    from app.runs
$$;

comment on function app.runs_as_they_are() is 'The runs, for the views of other read models.';
