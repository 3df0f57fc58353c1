"""Runs the migrations on the connection, and in the transaction, that `ledger.migrations.migrate` opened."""

from alembic import context

from ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
context.run_migrations()
