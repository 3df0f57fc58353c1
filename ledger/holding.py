"""Holding: which alert stands, and which holds the gates of a customer, as expressions that statements share."""

STANDS = """(a.state = 'raised' and not exists (
    select from alert later where later.rule_id = a.rule_id and later.contract_id = a.contract_id
        and later.span_start = a.span_start and later.number > a.number
))"""
"""SQL that says of the row `a` of `alert` that it raised and nothing has cleared it since."""


def holding_rule(customer: str) -> str:
    """Return SQL for the first rule that holds the gates of a customer, null where none does.

    One does while an alert of a rule that holds gates stands on any contract of the customer: raised, neither cleared
    nor released, and its rule not disabled. `customer` is SQL for the customer's id.
    """
    return f"""(
        select min(a.rule_id) from contract c
        join alert a on a.contract_id = c.contract_id and {STANDS}
        join alert_rule r on r.rule_id = a.rule_id and r.action = 'hold_gate' and r.disabled_at is null
        where c.customer_id = {customer} and not exists (
            select from alert_release e where e.rule_id = a.rule_id and e.contract_id = a.contract_id
                and e.span_start = a.span_start and e.number = a.number
        )
    )"""  # noqa: S608 - the expression is of ours
