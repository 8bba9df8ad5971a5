-- A read model that costs too much for an append is brought up to the log in the background.

alter table app.projection
    add column is_inline boolean not null default true;
comment on column app.projection.is_inline is
    'Appends apply their events to the read model. Otherwise only the background does, so the read '
    'model is behind the log by about a second.';
