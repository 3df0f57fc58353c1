"""The doors for people and programs: the command `meterbook` and the HTTP API.

May import workflows, activities, ledger and pricing; does not know `workers`, and reaches `infra` only as a process.
"""
