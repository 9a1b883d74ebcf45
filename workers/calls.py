"""On whose behalf a worker predicts just now: a container is told, whatever lies between."""

from contextvars import ContextVar
from typing import NamedTuple


class Call(NamedTuple):
    """One attempt of one job, and what the container gets as its header Prefer ("" for none)."""

    id: str = ""
    attempt: int = 1
    prefer: str = ""


NOBODY = Call()
CALL: ContextVar[Call] = ContextVar("CALL", default=NOBODY)
