"""What all sinks have in common, and what is handed to them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from inference_portal.deliveries.events import JOB_TYPES, is_wanted
from inference_portal.deliveries.retry import Answer
from workers.template.parts import Part

TeamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
# Of an environment variable of the courier; with _FILE behind it, it names a file that holds the value.
Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,99}$")]


def _known(wanted: str) -> str:
    if not any(is_wanted(kind, [wanted]) for kind in JOB_TYPES):
        raise ValueError(f"there is no such event; there are {', '.join(JOB_TYPES)}, and a * at the end for the rest")
    return wanted


Events = Annotated[tuple[Annotated[str, AfterValidator(_known)], ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Parcel:
    """One delivery, read from the database: no sink asks for more."""

    sink: str
    event_id: str
    # A try before this one may have left something.
    is_repeat: bool
    # The CloudEvent but for the outputs, and as it is sent, with them.
    event: dict[str, Any]
    body: bytes
    # How the job was to be answered, and its result as V2 tensors in JSON; None: it isn't kept.
    reply: dict[str, Any]
    result: bytes | None


class NotSent(Exception):
    """It didn't arrive; the text says why. `is_final`: it never will."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        self.is_final = is_final
        super().__init__(reason)


class Sink(Part, ABC):
    """Who may name it; what it hears of; how it is written to. Secrets are in the courier's environment."""

    teams: Annotated[tuple[TeamName, ...], Field(min_length=1)] | None = None
    """The teams that may name it; all, without this key."""

    @abstractmethod
    def wants(self, kind: str) -> bool:
        """Tell whether it is to hear of events of this type."""

    @abstractmethod
    async def send(self, parcel: Parcel, seconds: float) -> Answer:
        """Deliver within so many seconds; a repeat is harmless. May raise anything, which is a failed try."""

    def is_open_to(self, team: str) -> bool:
        """Tell whether the team may name it."""
        return self.teams is None or team in self.teams
