"""Fixtures of the stories."""

from tests.admin.conftest import environment, meterbook
from tests.workflows.conftest import temporal

__all__ = ["environment", "meterbook", "temporal"]
