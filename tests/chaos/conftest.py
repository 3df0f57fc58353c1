"""Lets the assertions that the chaos tests share tell both sides when they fail."""

import pytest

pytest.register_assert_rewrite("tests.chaos.world", "tests.chaos.senders")
