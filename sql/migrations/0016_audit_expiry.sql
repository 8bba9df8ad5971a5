-- Entries of the audit are removed when they are old, and only then.

drop trigger audit_is_append_only on app.audit;

create trigger audit_is_never_changed
before update or truncate on app.audit
for each statement execute function app.refuse_audit_change();

create function app.require_old_entry() returns trigger
language plpgsql as $$
begin
    if old.at < now() - interval '30 days' then
        return old;
    end if;
    raise exception 'an entry of the audit stays for 30 days at least' using errcode = 'TL002';
end
$$;

create trigger audit_entry_is_old_or_stays
before delete on app.audit
for each row execute function app.require_old_entry();

comment on table app.audit is
    'Every request that a known key or token was brought with. Rows are never changed, and are '
    'removed when they are old.';
