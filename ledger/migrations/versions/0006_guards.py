"""The rules of the books that no caller can pass by: append-only, closed months, balances, issued documents.

SQLSTATEs of our own: MB001 the month is closed, MB002 a record is not changed, MB003 a transfer between entities.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the functions and their triggers; triggers of one event fire in the order of their names."""
    for function in (
        REFUSE_CHANGE,
        SHARE_BOOKS,
        HOLD_BOOKS,
        GUARD_POSTING,
        KEEP_BALANCE,
        GUARD_CLOSED_MONTH,
        GUARD_ISSUED_INVOICE,
        GUARD_ISSUED_LINE,
    ):
        op.execute(function)
    for table in ("transfer", "ledger_seal"):
        op.execute(
            f"create trigger a_append_only before update or delete or truncate on {table} "
            "for each statement execute function refuse_change()"
        )
    for table in ("accounting_period", "invoice", "invoice_line", "balance", "account"):
        op.execute(
            f"create trigger a_never_emptied before truncate on {table} "
            "for each statement execute function refuse_change()"
        )
    op.execute(
        "create trigger b_guard_posting after insert on transfer referencing new table as inserted "
        "for each statement execute function guard_posting()"
    )
    op.execute(
        "create trigger c_keep_balance after insert on transfer referencing new table as inserted "
        "for each statement execute function keep_balance()"
    )
    op.execute(
        "create trigger guard_closed_month before insert or update or delete on accounting_period "
        "for each row execute function guard_closed_month()"
    )
    op.execute(
        "create trigger guard_issued_invoice before update or delete on invoice "
        "for each row execute function guard_issued_invoice()"
    )
    op.execute(
        "create trigger guard_issued_line before insert or update or delete on invoice_line "
        "for each row execute function guard_issued_line()"
    )


REFUSE_CHANGE = """
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% on % is refused: what is recorded stays; correct a mistake by a reversing entry',
        tg_op, tg_table_name using errcode = 'MB002';
end
$$
"""

# Posting shares an entity's books and closing a month holds them alone: a posting comes before the close or sees it.
# Not a row lock: those who share a row pass by one who waits to have it alone, and the close would wait for ever.
SHARE_BOOKS = """
create function share_books(entity_id text) returns void
language sql as $$ select pg_advisory_xact_lock_shared(hashtextextended('books/' || entity_id, 0)) $$
"""

HOLD_BOOKS = """
create function hold_books(entity_id text) returns void
language sql as $$ select pg_advisory_xact_lock(hashtextextended('books/' || entity_id, 0)) $$
"""

# The second statement sees what was committed while the first one waited; that holds in read committed only.
GUARD_POSTING = """
create function guard_posting() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    refused record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'transfers are posted in read committed transactions only' using errcode = '25001';
    end if;
    perform share_books(concerned.entity_id) from (
        select distinct a.entity_id from inserted t join account a on a.account_id in (t.debit_id, t.credit_id)
        order by a.entity_id
    ) as concerned;
    select t.idempotency_key, t.effective_on, p.entity_id into refused
        from inserted t
        join account a on a.account_id in (t.debit_id, t.credit_id)
        join accounting_period p on p.entity_id = a.entity_id and p.month = date_trunc('month', t.effective_on)::date
        where p.state = 'closed'
        order by t.effective_on, t.idempotency_key limit 1;
    if found then
        raise exception 'transfer % is effective on %, in a month that entity % has closed',
            refused.idempotency_key, refused.effective_on, refused.entity_id using errcode = 'MB001';
    end if;
    select t.idempotency_key into refused
        from inserted t join account d on d.account_id = t.debit_id join account c on c.account_id = t.credit_id
        where d.entity_id <> c.entity_id limit 1;
    if found then
        raise exception 'transfer % goes from one entity to another', refused.idempotency_key using errcode = 'MB003';
    end if;
    return null;
end
$$
"""

# One upsert per statement, in account order: statements that share accounts wait for each other, never in a circle.
KEEP_BALANCE = """
create function keep_balance() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into balance as b (account_id, debits, credits, version)
        select account_id, sum(debit), sum(credit), 1
        from (
            select debit_id as account_id, amount as debit, 0 as credit from inserted
            union all
            select credit_id, 0, amount from inserted
        ) as side
        group by account_id
        order by account_id
    on conflict (account_id) do update
        set debits = b.debits + excluded.debits, credits = b.credits + excluded.credits, version = b.version + 1;
    return null;
end
$$
"""

# Whoever closes holds the books, also when it is not `ledger.closing`.
GUARD_CLOSED_MONTH = """
create function guard_closed_month() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' and old.state = 'closed' then
        raise exception 'month % of entity % is closed and stays closed', old.month, old.entity_id
            using errcode = 'MB002';
    end if;
    if tg_op <> 'DELETE' and new.state = 'closed' then
        perform public.hold_books(new.entity_id);
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end
$$
"""

GUARD_ISSUED_INVOICE = """
create function guard_issued_invoice() returns trigger language plpgsql as $$
begin
    if old.number is null then
        return case when tg_op = 'DELETE' then old else new end;
    end if;
    if tg_op = 'DELETE' or (to_jsonb(new) - 'state') is distinct from (to_jsonb(old) - 'state') then
        raise exception 'invoice % is issued as % and is never changed', old.invoice_id, old.number
            using errcode = 'MB002';
    end if;
    return new;
end
$$
"""

# The lock waits for an issue under way; the second statement sees whether it was committed.
GUARD_ISSUED_LINE = """
create function guard_issued_line() returns trigger language plpgsql as $$
declare
    concerned constant text[] := array[
        case when tg_op <> 'INSERT' then old.invoice_id end, case when tg_op <> 'DELETE' then new.invoice_id end
    ];
    issued text;
begin
    perform from public.invoice where invoice_id = any(concerned) order by invoice_id for key share;
    select number into issued from public.invoice where invoice_id = any(concerned) and number is not null;
    if found then
        raise exception 'the lines of invoice % are issued and are never changed', issued using errcode = 'MB002';
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end
$$
"""
