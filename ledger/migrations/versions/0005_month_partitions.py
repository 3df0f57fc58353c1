"""Month partitions of the usage events: a default for odd times, and a function that adds a month."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the default partition and the function that the application calls for a new month."""
    op.execute("create table usage_event_default partition of usage_event default")
    op.execute(USAGE_PARTITION)


# Called before a batch inserts its events: whoever has written to the default partition must not wait for its lock.
# Events of the month that came before their partition move into it.
USAGE_PARTITION = """
create function usage_partition(month date) returns void
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    first_day constant date := date_trunc('month', month)::date;
    lower_bound constant timestamptz := first_day::timestamp at time zone 'UTC';
    upper_bound constant timestamptz := (first_day + interval '1 month')::timestamp at time zone 'UTC';
    partition_name constant text := 'usage_event_' || to_char(first_day, 'YYYY_MM');
begin
    if to_regclass('public.' || partition_name) is not null then
        return;
    end if;
    if first_day < '2000-01-01' or first_day > '2199-12-01' then
        raise exception 'no partition for month %: outside the years 2000 to 2199', first_day using errcode = '22008';
    end if;
    lock table public.usage_event in share update exclusive mode;
    if to_regclass('public.' || partition_name) is not null then
        return;
    end if;
    execute format('create table public.%I (like public.usage_event including defaults)', partition_name);
    execute format(
        'with moved as (delete from public.usage_event_default where ts >= %L and ts < %L returning *)
         insert into public.%I select * from moved', lower_bound, upper_bound, partition_name);
    execute format(
        'alter table public.usage_event attach partition public.%I for values from (%L) to (%L)',
        partition_name, lower_bound, upper_bound);
end
$$
"""
