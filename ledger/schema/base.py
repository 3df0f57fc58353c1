"""What all declarations share: the metadata with its naming, and the types of money, quantities and moments."""

from sqlalchemy import DateTime, MetaData, Numeric, func

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

MONEY = Numeric(38, 12)
QUANTITY = Numeric(38, 12)
MOMENT = DateTime(timezone=True)
NOW = func.clock_timestamp()
