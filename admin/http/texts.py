"""Texts in addresses: ids and names without the character that PostgreSQL cannot hold."""

from typing import Annotated

from fastapi import Path, Query

WITHOUT_NUL = r"^[^\x00]*$"
LONGEST = 256

PathText = Annotated[str, Path(pattern=WITHOUT_NUL, max_length=LONGEST)]
QueryText = Annotated[str, Query(pattern=WITHOUT_NUL, min_length=1, max_length=LONGEST)]
OptionalQueryText = Annotated[str | None, Query(pattern=WITHOUT_NUL, max_length=LONGEST)]
