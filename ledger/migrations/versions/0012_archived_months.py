"""A function that takes an exported month out of the usage events, once it sees that the export holds all of it."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the function and let the application call it."""
    op.execute(USAGE_DETACH)
    op.execute("revoke execute on function usage_detach(date, bigint, numeric) from public")
    op.execute("grant execute on function usage_detach(date, bigint, numeric) to meterbook_app")


# The rows are compared under the lock: none can come or change between the look and the removal. The sum of a part of
# each row's digest does not depend on the order of the rows; `ledger.intake.partitions` computes the same from a file.
USAGE_DETACH = """
create function usage_detach(month date, expected_rows bigint, expected_digest numeric) returns void
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    first_day constant date := date_trunc('month', month)::date;
    partition_name constant text := 'usage_event_' || to_char(first_day, 'YYYY_MM');
    found_rows bigint;
    found_digest numeric;
begin
    if not exists (select from public.usage_archive a where a.month = first_day and a.detached_at is null) then
        raise exception 'month % is not exported, or is detached already', first_day using errcode = '55000';
    end if;
    execute format('lock table public.%I in access exclusive mode', partition_name);
    execute format(
        'select count(*), coalesce(sum((''x'' || substr(encode(sha256(convert_to(
            e.key_hash::text || ''|'' || e.revision || ''|'' || coalesce(e.customer_id, '''') || ''|''
            || coalesce(e.attributed_batch_id::text, '''') || ''|'' || coalesce(e.ended_batch_id::text, ''''),
            ''UTF8'')), ''hex''), 1, 16))::bit(64)::bigint), 0)
         from public.%I e', partition_name) into found_rows, found_digest;
    if found_rows <> expected_rows or found_digest <> expected_digest then
        raise exception 'month % has % events unlike the % that were exported', first_day, found_rows, expected_rows
            using errcode = '55000';
    end if;
    execute format('alter table public.usage_event detach partition public.%I', partition_name);
    execute format('drop table public.%I', partition_name);
end
$$
"""
