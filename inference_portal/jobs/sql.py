"""Values into raw SQL and out of it, alike on both databases.

Raw SQL is for statements that run for every bundle or every poll: building the query costs Django more than running it
costs the database (a dispatcher's step for two bundles: see `docs/decisions/0014`).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection


def places(values: Sequence[Any]) -> str:
    """Return a placeholder for each value, for a list in SQL."""
    return ", ".join(["%s"] * len(values))


def keys(ids: Iterable[UUID | str]) -> list[Any]:
    """Return ids as the database holds them."""
    given = (each if isinstance(each, UUID) else UUID(each) for each in ids)
    return list(given) if connection.vendor == "postgresql" else [each.hex for each in given]


def moment(value: datetime | None) -> Any:
    """Return a time as the database takes it."""
    return None if value is None else connection.ops.adapt_datetimefield_value(value)


def as_uuid(value: UUID | str) -> UUID:
    """Return an id that the database gave: SQLite gives a text."""
    return value if isinstance(value, UUID) else UUID(value)


def as_moment(value: datetime | str) -> datetime:
    """Return a time that the database gave: SQLite gives a text, or a time without its zone."""
    given = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return given if given.tzinfo is not None else given.replace(tzinfo=UTC)
