"""Detections: precision, recall and delay of alarms against known attacks, worked out by hand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pricing.calendar import Period
from pricing.detections import scored


def span(first: int, last: int) -> Period:
    return Period(datetime(2026, 1, 5, first, tzinfo=UTC), datetime(2026, 1, 5, last, tzinfo=UTC))


def test_alarms_are_true_where_they_overlap_an_attack_and_found_when_the_first_is_given() -> None:
    score = scored([span(1, 2), span(6, 7), span(7, 8), span(20, 21)], [span(5, 9), span(12, 14), span(2, 3)])
    assert (score.alarms, score.true_alarms, score.attacks, score.found) == (4, 2, 3, 1)
    assert score.precision == Decimal(50)
    assert score.recall == Decimal("33.333333333333")
    assert score.delays == (timedelta(hours=2),)
    assert score.median_delay == timedelta(hours=2)


def test_without_alarms_there_is_no_precision_and_without_attacks_no_recall() -> None:
    assert (scored([], [span(1, 2)]).precision, scored([], [span(1, 2)]).recall) == (None, Decimal(0))
    assert (scored([span(1, 2)], []).precision, scored([span(1, 2)], []).recall) == (Decimal(0), None)
    assert scored([], []).median_delay is None
