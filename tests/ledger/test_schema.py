"""The migrations: they lead to exactly the declared schema and to exactly the stated rights, once, whoever calls."""

import importlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ledger.database import APPLICATION_ROLE, undone
from ledger.migrations import migrate
from ledger.schema import metadata

RIGHTS: Mapping[str, str] = {
    table: rights
    for module in (
        "0007_application_role",
        "0008_metric_versions",
        "0009_cards_and_cadences",
        "0010_corrections_and_completeness",
        "0011_kept_readings",
        "0013_credits",
        "0014_alerts",
        "0015_gates",
        "0016_recharges",
        "0019_kept_parts",
        "0021_rollovers",
        "0022_lot_scopes",
        "0023_alert_actions",
    )
    for table, rights in importlib.import_module(f"ledger.migrations.versions.{module}").RIGHTS.items()
}
HEAD = "0023"

TABLES = "c.relnamespace = 'public'::regnamespace and not c.relispartition and c.relname <> 'alembic_version'"

# What PostgreSQL itself says about the tables, in its own normal form, of those that TABLES leaves: partitions and
# alembic's own mark are not declared. Each query goes on with TABLES.
CATALOG = {
    "tables": """
        select c.relname, c.relkind, c.relpersistence, c.relrowsecurity, c.reloptions, pg_get_partkeydef(c.oid)
        from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'f') and""",
    "columns": """
        select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
            pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation::text
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relkind in ('r', 'p') and""",
    "constraints": """
        select c.relname, k.conname, pg_get_constraintdef(k.oid), k.convalidated, k.condeferrable
        from pg_class c join pg_constraint k on k.conrelid = c.oid
        where k.contype <> 'n' and""",  # not null stands with the columns
    "indexes": """
        select c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid, x.reloptions
        from pg_class c join pg_index i on i.indrelid = c.oid join pg_class x on x.oid = i.indexrelid where""",
    "sequences": """
        select c.relname, format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqmax, s.seqcycle
        from pg_class c join pg_sequence s on s.seqrelid = c.oid where""",
}

Facts = dict[str, set[tuple[object, ...]]]


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """The URL of a database without anything in it."""
    name = f"empty_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'create database "{name}"')
    yield sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'drop database if exists "{name}" with (force)')


@contextmanager
def owning(url: str) -> Iterator[sa.Connection]:
    """A transaction of the tables' owner, rolled back at the end."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def facts(connection: sa.Connection) -> Facts:
    return {
        kind: {
            tuple(tuple(value) if isinstance(value, list) else value for value in row)
            for row in connection.execute(sa.text(f"{query} {TABLES}"))
        }
        for kind, query in CATALOG.items()
    }


def version(connection: sa.Connection) -> list[str]:
    return [*connection.execute(sa.text("select version_num from alembic_version")).scalars()]


def rights_of(connection: sa.Connection, table: str) -> set[str]:
    """Every right of the application role on a table, on the whole of it or on a column, and none from the public."""
    on_table = connection.execute(
        sa.text(
            "select lower(privilege_type) from information_schema.role_table_grants"
            " where table_schema = 'public' and table_name = :table and grantee in (:role, 'PUBLIC')"
        ),
        {"table": table, "role": APPLICATION_ROLE},
    )
    whole = {*on_table.scalars()}
    on_columns = connection.execute(
        sa.text(
            "select lower(privilege_type), column_name from information_schema.column_privileges"
            " where table_schema = 'public' and table_name = :table and grantee in (:role, 'PUBLIC')"
        ),
        {"table": table, "role": APPLICATION_ROLE},
    )
    return whole | {f"{right} ({column})" for right, column in on_columns if right not in whole}


def test_the_migrations_lead_to_exactly_the_declared_schema(common_url: str, empty_url: str) -> None:
    with owning(common_url) as migrated, owning(empty_url) as declared:
        metadata.create_all(declared)
        for kind, found in facts(declared).items():
            assert facts(migrated)[kind] == found, kind


def test_alembic_would_generate_no_further_migration(common_url: str) -> None:
    def declared_or_odd(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or name != "usage_event_default"

    with owning(common_url) as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": declared_or_odd}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_comparison_sees_every_kind_of_difference(common_url: str) -> None:
    with owning(common_url) as connection:
        before = facts(connection)
        for change in (
            "alter table balance reset (fillfactor)",
            "alter table transfer drop constraint ck_transfer_two_accounts",
            "alter table transfer alter column posted_at set default now()",
            "alter table transfer alter column amount type numeric(38, 10)",
            "alter table transfer drop constraint fk_transfer_debit_id_currency",
            "drop index uq_payment_attempt_open",
            "alter table invoice alter column number set not null",
            "alter table lot add column note text",
            "alter table account alter column account_id set increment by 2",
            "create table stray ()",
            "create view stray as select 1 as one",
        ):
            with undone(connection):
                connection.execute(sa.text(change))
                assert facts(connection) != before, change
        assert facts(connection) == before


def test_the_usage_of_odd_months_has_one_default_partition(common_url: str) -> None:
    with owning(common_url) as connection:
        partitions = connection.execute(
            sa.text(
                "select c.relname, pg_get_expr(c.relpartbound, c.oid) from pg_class c"
                " where c.relispartition and c.relkind = 'r'"
            )
        )
        assert {(name, bound) for name, bound in partitions} == {("usage_event_default", "DEFAULT")}


def test_the_application_role_has_the_stated_rights_on_every_table_and_no_more(common_url: str) -> None:
    assert RIGHTS.keys() == metadata.tables.keys()
    with owning(common_url) as connection:
        every = connection.execute(sa.text("select c.relname from pg_class c where c.relkind in ('r', 'p', 'v')"))
        for table in {*every.scalars()} & {*sa.inspect(connection).get_table_names(), *RIGHTS}:
            stated = {right.strip() for right in RIGHTS.get(table, "").split(",")} - {""}
            assert rights_of(connection, table) == stated, table


def test_the_application_role_may_use_and_not_make_anything(common_url: str) -> None:
    with owning(common_url) as connection:
        role = connection.execute(
            sa.text(
                "select rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,"
                " has_schema_privilege(rolname, 'public', 'create'),"
                " exists (select from pg_auth_members where member = r.oid),"
                " exists (select from pg_class where relowner = r.oid) from pg_roles r where rolname = :role"
            ),
            {"role": APPLICATION_ROLE},
        ).one()
        assert not any(role)
        sequences = connection.execute(
            sa.text(
                "select bool_or(has_sequence_privilege(:role, oid, 'update')),"
                " bool_and(has_sequence_privilege(:role, oid, 'usage')) from pg_class where relkind = 'S'"
            ),
            {"role": APPLICATION_ROLE},
        ).one()
        assert tuple(sequences) == (False, True)


def test_functions_with_the_owners_rights_name_where_they_look_and_only_usage_calls_them(common_url: str) -> None:
    with owning(common_url) as connection:
        found = connection.execute(
            sa.text(
                "select proname, proconfig, has_function_privilege('public', oid, 'execute')"
                " from pg_proc where pronamespace = 'public'::regnamespace and prosecdef"
            )
        ).all()
    assert {name for name, _, _ in found} == {"guard_posting", "keep_balance", "usage_detach", "usage_partition"}
    # the temporary schema comes last: nobody's temporary table is taken for a table of the books
    assert {tuple(settings) for _, settings, _ in found} == {("search_path=pg_catalog, public, pg_temp",)}
    # the public may "execute" a trigger function, which is refused outside a trigger
    assert {name for name, _, public in found if public} == {"guard_posting", "keep_balance"}


def test_migrating_twice_is_harmless(database_url: str) -> None:
    with owning(database_url) as connection:
        connection.execute(
            sa.text(
                "insert into entity (entity_id, name, currency, time_zone, invoice_prefix, definition)"
                " values ('northwind', 'Northwind', 'EUR', 'Europe/Berlin', 'NW', '{}')"
            )
        )
        connection.commit()
        before = facts(connection), version(connection)
    migrate(database_url)
    with owning(database_url) as connection:
        assert (facts(connection), version(connection)) == before
        assert version(connection) == [HEAD]
        assert connection.execute(sa.text("select entity_id from entity")).scalars().all() == ["northwind"]


def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    with owning(empty_url) as connection:
        connection.execute(sa.text("create table transfer (of_another_program text)"))
        connection.commit()
    with pytest.raises(sa.exc.ProgrammingError, match="already exists"):
        migrate(empty_url)
    with owning(empty_url) as connection:
        assert sa.inspect(connection).get_table_names() == ["transfer"]


def test_concurrent_migrations_wait_for_each_other(empty_url: str) -> None:
    with owning(empty_url) as holder, ThreadPoolExecutor(3) as pool:
        holder.execute(sa.text("select pg_advisory_xact_lock(hashtext('ledger.migrations'))"))
        calls = [pool.submit(migrate, empty_url) for _ in range(3)]
        waiting = sa.text(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            " and database = (select oid from pg_database where datname = current_database())"
        )
        give_up = time.monotonic() + 20
        while holder.execute(waiting).scalar_one() < len(calls):
            assert time.monotonic() < give_up, "the three calls do not wait for the lock"
            time.sleep(0.05)
        assert sa.inspect(holder).get_table_names() == []
        holder.rollback()
        for call in calls:
            call.result(timeout=30)
        assert version(holder) == [HEAD]
