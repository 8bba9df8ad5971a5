-- Folds the events that app.fold_past has copied into these read models of the past. The caller names
-- each read model once in a transaction, with the position that it gave to app.fold_past.
create or replace function app.fold_past_models(p_names text[], p_upto bigint) returns void
language plpgsql security definer set search_path = '' set enable_seqscan = off as $$
declare
    v_last bigint := (select max(position) from past.event);
    v_name text;
begin
    for v_name in
        select name from app.projection
        where name = any (p_names) and handles && array(select distinct type from past.event)
        order by name
    loop
        perform app.fold_past_range(v_name, 0, p_upto);
        if v_last > p_upto then
            perform app.fold_past_range(v_name, p_upto, v_last);
        end if;
    end loop;
end
$$;

revoke execute on function app.fold_past_models(text[], bigint) from public;
grant execute on function app.fold_past_models(text[], bigint) to throughline_tenant;
