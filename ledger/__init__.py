"""What is recorded: PostgreSQL schema and migrations, intake, accounts and transfers, documents, reports.

A function here takes an open SQLAlchemy `Connection` and never commits: the caller owns the transaction.
May import `pricing`; knows neither Temporal nor Stripe.
"""
