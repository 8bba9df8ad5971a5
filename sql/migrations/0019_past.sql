-- The read models as they were at an earlier position of the log. A reader of the past folds the
-- events up to that position with the rules of the read models, into empty tables of the same form in
-- a schema of their own. The transaction is rolled back at its end, so these tables never have a row
-- that anybody else sees. They are not logged: there is nothing to recover.

create schema past;
comment on schema past is
    'Empty copies of the read models. A reader of the past fills them, reads them, and rolls back.';
grant usage on schema past to throughline_service, throughline_tenant;

-- The rules of the read models name their events `event`. Here these are the events that one reader
-- of the past has copied.
create unlogged table past.event (like app.event including comments);
create index event_of_position on past.event (position);
create index event_of_stream on past.event (tenant_id, stream_id, version);
comment on table past.event is 'The events that a reader of the past folds.';

create unlogged table past.turn (
    tenant_id text not null collate "C",
    place     text not null collate "C",
    constraint turn_pkey primary key (tenant_id, place)
);
comment on table past.turn is
    'Readers of the past of one project or account take turns: the second insert of a key waits until '
    'the first reader has rolled back. Nobody but app.fold_past can insert here.';
comment on column past.turn.tenant_id is 'The tenant of the reader.';
comment on column past.turn.place is 'The project or the account that is read.';

select app.keep_tenants_apart('past.event');
select app.keep_tenants_apart('past.turn');

-- A commit of the past would leave rows for the next reader.
create function app.refuse_past_commit() returns trigger
language plpgsql as $$
begin
    raise exception 'the past is read and never stored'
        using errcode = 'TL002', hint = 'End the transaction with a rollback.';
end
$$;
create constraint trigger past_is_rolled_back
after insert on past.turn
deferrable initially deferred
for each row execute function app.refuse_past_commit();
