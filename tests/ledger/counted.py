"""Counting anew what counts, to compare it with the totals in the books."""

import sqlalchemy as sa

from ledger.database import undone
from ledger.intake.rollup import TRIAL, add_past, open_trial
from ledger.intake.rules import read_rules

COMPARED = """
select count(*) from ((table {one} except table {other}) union all (table {other} except table {one})) different
"""

TALLIES = """
with anew as (
    select customer_alias, type, source, date_bin('15 minutes', ts, timestamptz '2000-01-01 00:00:00Z') as bucket_start,
        count(*) as events
    from usage_event where ended_batch_id is null group by 1, 2, 3, 4
)
select count(*) from anew a
full join (select * from usage_tally where events <> 0) t using (customer_alias, type, source, bucket_start)
where a.events is distinct from t.events
"""

DOUBLE = "select key from usage_event where ended_batch_id is null group by key, source having count(*) > 1"


def same_as_counted_anew(connection: sa.Connection) -> None:
    """Totals, members and tally are what the events that count come to; each key counts at most once."""
    with undone(connection):
        open_trial(connection)
        add_past(connection, read_rules(connection), totals=TRIAL)
        for one, other in (("usage_rollup", TRIAL.rollup), ("usage_member", TRIAL.member)):
            assert connection.execute(sa.text(COMPARED.format(one=one, other=other))).scalar_one() == 0, one
    assert connection.execute(sa.text(TALLIES)).scalar_one() == 0
    assert connection.execute(sa.text(DOUBLE)).all() == []
