"""Several writes in one round trip: on PostgreSQL parts of one statement, on SQLite one after the other.

On PostgreSQL every part sees the database as it was before the statement, so none may depend on what another writes,
and no two may write the same row. Between the web server and the database the way there and back is most of the price
of a small statement.
"""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BindParameter, Connection, Insert, Update, bindparam


def new(*columns: str) -> dict[str, BindParameter[Any]]:
    """Return values for `Insert.values` or `Update.values`: column x is given as parameter new_x.

    Parameters named like columns belong to SQLAlchemy.
    """
    return {column: bindparam(f"new_{column}") for column in columns}


class AtOnce:
    """Writes that do not look at each other."""

    def __init__(self, last: Insert | Update, *others: Update) -> None:
        """Put them together.

        Args:
            last: any of them; on SQLite it runs after the others.
            others: the rest.
        """
        self._parts = (*others, last)
        self._whole = last.add_cte(*(part.cte(f"part_{number}") for number, part in enumerate(others)))

    def run(self, connection: Connection, values: Mapping[str, Any]) -> None:
        """Write.

        Args:
            connection: in a transaction.
            values: of the parameters of all parts; others are ignored.
        """
        for statement in (self._whole,) if connection.dialect.name == "postgresql" else self._parts:
            connection.execute(statement, dict(values))
