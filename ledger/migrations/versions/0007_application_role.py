"""The role that every session of the product works as, and exactly what it may do to each table."""

from alembic import op

revision = "0007"
down_revision = "0006"

RIGHTS = {
    # The books: entries come in and stay.
    "transfer": "select, insert",
    "ledger_seal": "select, insert",
    "account": "select, insert",
    "balance": "select",
    "accounting_period": "select, insert, update",
    "close_run": "select, insert, update",
    # Usage: what came in is kept; the attribution to a customer may come later, and derived figures are rebuilt.
    "usage_batch": "select, insert, update",
    "usage_key": "select, insert",
    "usage_event": "select, insert, update (customer_id)",
    "usage_conflict": "select, insert",
    "usage_rejected": "select, insert",
    "usage_outcome": "select, insert, update",
    "usage_tally": "select, insert, update",
    "usage_rollup": "select, insert, update, delete",
    "usage_dirty": "select, insert, delete",
    "usage_accrual": "select, insert, update",
    # Parties and contracts.
    "entity": "select, insert, update",
    "customer": "select, insert, update",
    "customer_alias": "select, insert",
    "metric": "select, insert, update",  # the right to update is what PostgreSQL asks of `lock table`
    "api_key": "select, insert, update",
    "contract": "select, insert, update",
    "contract_terms": "select, insert",
    "contract_period": "select, insert, update, delete",
    "lot": "select, insert",
    "accrued": "select, insert, update, delete",
    # Documents and cash.
    "invoice": "select, insert, update, delete",
    "invoice_line": "select, insert, update, delete",
    "payment_attempt": "select, insert, update",
    "payment": "select, insert",
    "payment_application": "select, insert",
    "stripe_event": "select, insert",
}


def upgrade() -> None:
    """Create the role where the server has none yet, and grant it its rights in this database."""
    op.execute(CREATE_ROLE)
    op.execute(GRANT_MEMBERSHIP)
    op.execute("grant usage on schema public to meterbook_app")
    op.execute(GRANT_TEMPORARY)
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
    op.execute("grant select, usage on all sequences in schema public to meterbook_app")
    op.execute("revoke execute on function usage_partition(date) from public")
    op.execute("grant execute on function usage_partition(date) to meterbook_app")


# Roles belong to the whole server: databases that are migrated at the same time meet here.
CREATE_ROLE = """
do $$ begin
    create role meterbook_app nologin;
exception when duplicate_object or unique_violation then
    null;
end $$
"""

# Intake gathers a batch in a temporary table; many servers take that right from the public.
GRANT_TEMPORARY = """
do $$ begin
    execute format('grant temporary on database %I to meterbook_app', current_database());
end $$
"""

# A superuser may act as any role. PostgreSQL before 16 has no set_option: membership there always allows `set role`.
GRANT_MEMBERSHIP = """
do $$ begin
    if exists (select from pg_roles where rolname = current_user and rolsuper) or exists (
        select from pg_auth_members m
        where m.roleid = 'meterbook_app'::regrole and m.member = current_user::regrole
        and (to_jsonb(m) ->> 'set_option')::boolean is not false
    ) then
        return;
    end if;
    execute format('grant meterbook_app to %I', current_user);
end $$
"""
