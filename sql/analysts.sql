-- What is read of the views for analysts. These statements are run by the owner of the database.

-- name: as_of_one_moment
set transaction isolation level repeatable read read only

-- name: columns
-- The columns of a view in their order, each with its type.
select attname::text, format_type(atttypid, atttypmod)
from pg_attribute
where attrelid = to_regclass(format('analytics.%%I', %(view)s::text)) and attnum > 0
order by attnum
