-- Makes the read models of the past: as they were at the position `p_upto`, for these projects or this
-- user's account, of the transaction's tenant. Of the read models it makes those of `p_names`, and
-- app.fold_past_models makes others, later in the transaction. Returns the number of events that were
-- copied; more than `p_most` means that nothing was folded.
--
-- The rules are the functions of the live read models, in the schema `past`. Then the same rules apply
-- what was erased later. So the past has nothing that is erased now, whether the log is masked by
-- then or not.
--
-- Runs as the owner, because the role of a tenant may not write. The tenant is that of the transaction.
-- Readers of the same project or account take turns, because the keys of their rows are the same. A
-- row is the lock, and not an advisory lock: everybody who may connect can take an advisory lock.
create or replace function app.fold_past(
    p_project_ids text[], p_user_id text, p_upto bigint, p_names text[], p_most bigint
) returns bigint
language plpgsql security definer set search_path = '' set enable_seqscan = off as $$
declare
    v_tenant_id  text := current_setting('throughline.tenant');
    v_erasures   text[] := app.erasures()
        || array['PromptErasureRequested', 'ProjectErasureRequested'];
    v_count      bigint := 0;
    v_project_id text;
begin
    if exists (select from past.turn) then
        raise exception 'a transaction folds the past once' using errcode = 'TL002';
    end if;
    insert into past.turn (tenant_id, place)
    select v_tenant_id, place
    from (
        select 'project-' || project_id as place from unnest(p_project_ids) as asked (project_id)
        union
        select 'account-' || p_user_id where p_user_id is not null
    ) as asked
    order by place collate "C";

    foreach v_project_id in array p_project_ids loop
        v_count := v_count + app.copy_past(
            v_tenant_id, v_project_id, p_upto, p_most + 1 - v_count
        );
    end loop;
    if p_user_id is not null then
        v_count := v_count + app.copy_past_account(
            v_tenant_id, p_user_id, p_upto, p_most + 1 - v_count
        );
    end if;
    if v_count > p_most then
        return v_count;
    end if;

    insert into past.event
    select erased.*
    from unnest(p_project_ids) as asked (project_id)
    join app.event as erased
        on erased.tenant_id = v_tenant_id
            and erased.project_id = asked.project_id
            and erased.position > p_upto
            and erased.type = any (v_erasures)
    where exists (
        select from past.event
        where event.tenant_id = v_tenant_id and event.stream_id = erased.stream_id
    );
    perform app.fold_past_models(p_names, p_upto);
    return v_count;
end
$$;

revoke execute on function app.fold_past(text[], text, bigint, text[], bigint) from public;
grant execute on function app.fold_past(text[], text, bigint, text[], bigint)
to throughline_tenant;
