"""`make test` runs two halves; what either of them finds must come out as its code."""

import pytest

from tests.__main__ import FAST, SLOW, joined

PASSED, FAILED, INTERRUPTED, EMPTY = 0, 1, 2, 5


@pytest.mark.parametrize(
    ("fast", "slow", "narrowed", "code"),
    [
        (PASSED, PASSED, False, PASSED),
        (FAILED, PASSED, False, FAILED),
        (PASSED, FAILED, False, FAILED),
        (FAILED, INTERRUPTED, True, FAILED),
        (PASSED, EMPTY, True, PASSED),
        (EMPTY, FAILED, True, FAILED),
        (PASSED, EMPTY, False, EMPTY),
        (EMPTY, EMPTY, True, EMPTY),
    ],
)
def test_a_run_fails_where_a_half_fails_or_a_path_holds_no_test(
    fast: int, slow: int, narrowed: bool, code: int
) -> None:
    assert joined({FAST: fast, SLOW: slow}, narrowed=narrowed) == code
