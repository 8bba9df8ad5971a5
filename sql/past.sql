-- The read models as they were at an earlier position. See the migration 0019_past.

-- name: limit_time
select set_config('statement_timeout', '10s', true)

-- name: position_at
select app.position_at(%(time)s)

-- name: fold
select app.fold_past(%(project_ids)s, %(user_id)s, %(upto)s, %(names)s, %(most)s)

-- name: fold_models
select app.fold_past_models(%(names)s, %(upto)s)

-- name: lock
-- Processes that start at once install one after the other. Readers are not kept waiting.
lock table past.event in share update exclusive mode

-- name: installed
-- The digest of the rules that are installed for a read model.
select obj_description(to_regclass(%(table)s), 'pg_class')
