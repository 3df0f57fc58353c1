"""`python -m ledger.migrations`: bring the database named by DATABASE_URL to the newest version."""

import os
import sys

from ledger.migrations import migrate


def main() -> int:
    """Migrate and return the process's exit code."""
    database_url = os.environ.get("DATABASE_URL")
    if not database_url:
        sys.stderr.write("DATABASE_URL is not set; give the URL of the database's owner, postgresql://...\n")
        return 2
    migrate(database_url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
