"""What the product's speed is, against a yardstick measured beside it in the same run; `make bench`.

A module per figure. No speed is asserted here, only that every event, accrual and invoice was counted. Servers and
databases are this room's own, and gone afterwards.
"""
