"""What the clients ask for: plain jobs, or a mix of all that a job may be told, decided by a seed. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tests.chaos import samples

FIRST_SAMPLES = 1000
MOST_ROWS = 4
TTL_SECONDS = (1, 10)
ORDERING_KEYS = ("north", "south")


class Kind(StrEnum):
    """What a client wants of a job beside its result."""

    PLAIN = "plain"
    CANCEL = "cancel"
    RERUN = "cancel and rerun"
    TTL = "time to live"
    ORDERED = "ordering key"
    PRIORITY = "priority"
    KEY = "idempotency key"
    OWN_ID = "own id"
    FORGET = "fire and forget"


# Of a hundred jobs.
MIX = {
    Kind.PLAIN: 70,
    Kind.CANCEL: 5,
    Kind.RERUN: 5,
    Kind.TTL: 4,
    Kind.ORDERED: 5,
    Kind.PRIORITY: 3,
    Kind.KEY: 3,
    Kind.OWN_ID: 2,
    Kind.FORGET: 3,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One job as its client wants it; `team` counts from 0."""

    model: str
    first: int
    rows: int
    team: int = 0
    kind: Kind = Kind.PLAIN
    headers: tuple[tuple[str, str], ...] = (("Prefer", "respond-async"),)
    # As in the ledger.
    may_end: tuple[str, ...] = ("succeeded",)
    name: str = ""
    order: str = ""
    ttl: float | None = None


def plain(seed: int, jobs: int) -> list[Ask]:
    """Return so many plain jobs of one team."""
    chance = random.Random(seed)
    return [Ask(*_samples(chance)) for _ in range(jobs)]


def mixed(seed: int, jobs: int, teams: int) -> list[Ask]:
    """Return so many jobs of so many teams, of each kind as many as MIX says."""
    chance = random.Random(seed)
    kinds = chance.choices(list(MIX), list(MIX.values()), k=jobs)
    return [_ask(chance, kind, chance.randrange(teams)) for kind in kinds]


def _samples(chance: random.Random) -> tuple[str, int, int]:
    return chance.choice(samples.MODELS), chance.randrange(FIRST_SAMPLES), chance.randint(1, MOST_ROWS)


def _ask(chance: random.Random, kind: Kind, team: int) -> Ask:
    model, first, rows = _samples(chance)
    headers = {"Prefer": "respond-async-proxy" if kind is Kind.FORGET else "respond-async"}
    may_end: Sequence[str] = ["succeeded"]
    name = order = ""
    ttl = None
    match kind:
        case Kind.TTL:
            ttl = chance.randint(*TTL_SECONDS)
            headers["X-Inference-Ttl"] = str(ttl)
            may_end = ["succeeded", "expired"]
        case Kind.ORDERED:
            key = chance.choice(ORDERING_KEYS)
            headers["X-Inference-Ordering-Key"] = key
            order = f"team {team}, {model}, {key}"
        case Kind.PRIORITY:
            headers["X-Inference-Priority"] = chance.choice(["high", "low"])
        case Kind.KEY:
            name = f"key {chance.getrandbits(64):x}"
            headers["Idempotency-Key"] = name
        case Kind.OWN_ID:
            name = str(UUID(int=chance.getrandbits(128), version=4))
            headers["X-Inference-Id"] = name
    return Ask(model, first, rows, team, kind, tuple(headers.items()), tuple(may_end), name, order, ttl)
