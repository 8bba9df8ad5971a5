-- The prompts, for the views of other read models.
--
-- A function finds its table by name at each call, and a view does not. So the table can be rebuilt
-- and swapped while views of other read models show it. PostgreSQL inlines the function.
create or replace function app.prompts_as_they_are() returns table (
    tenant_id text, prompt_id text, name text
)
language sql stable as $$
    select tenant_id, prompt_id, name from app.prompts where status <> 'erasing'
$$;

comment on function app.prompts_as_they_are() is
    'The prompts, for the views of other read models.';
