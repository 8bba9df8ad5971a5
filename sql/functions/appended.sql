-- The second half of every append, in the same transaction: mask erased events, update the read
-- models, notify the listeners once.
create or replace function app.appended(p_first bigint, p_last bigint, p_types text[]) returns void
language plpgsql as $$
begin
    if p_types && app.erasures() then
        perform app.mask(p_first, p_last);
    end if;
    perform app.project_inline(p_first, p_last, p_types);
    perform pg_notify('throughline', p_last::text);
end
$$;
