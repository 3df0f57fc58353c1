"""Issuing: when the invoice of a period that is over goes out."""

from datetime import datetime, timedelta


def issued_at(invoice_date: datetime, grace: timedelta, *, has_usage: bool) -> datetime:
    """Return when an invoice is issued: after the grace for late usage, or at once where it bills no usage (Orb's)."""
    return invoice_date + grace if has_usage else invoice_date
