"""Clients that submit jobs, and cancel and rerun some, without waiting for them, for as long as the faults last."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from tests.chaos import samples
from tests.chaos.asks import Ask, Kind, plain
from tests.chaos.ledger import Change, Entry
from tests.chaos.system import System

# A client that was let down pauses for so long; the next one may find the portal back.
PAUSE_SECONDS = 0.2
# Longer than any victim is frozen.
ANSWER_SECONDS = 20.0
# A refusal that the system promises to be harmless: the client asks again.
REFUSED = 503
# Who cancels a job waits at most so long: some are cancelled before they run, some meanwhile, some too late.
BEFORE_CANCEL_SECONDS = 0.2
BEFORE_BLOWS_SHARE = 0.7
BEFORE_BLOW_SECONDS = 0.3
JSON = {"Content-Type": "application/json"}


def moments(seed: int, jobs: int, seconds: float, blows: Sequence[float]) -> list[float]:
    """Choose when to ask for each job: most of them just before a blow, so that it hits work under way."""
    chance = random.Random(seed)
    found = []
    for _ in range(jobs):
        if blows and chance.random() < BEFORE_BLOWS_SHARE:
            found.append(max(0.0, chance.choice(blows) - chance.uniform(0, BEFORE_BLOW_SECONDS)))
        else:
            found.append(chance.uniform(0, seconds))
    return sorted(found)


class Load:
    """One job for each moment (seconds from the start, in order), by several clients; a context manager.

    Without `asks` they are plain ones. A broken connection and a 503 are allowed, and the client asks again; anything
    else but a 202 is a violation.
    """

    def __init__(
        self, system: System, moments: Sequence[float], asks: Sequence[Ask] | None = None, *, clients: int = 4
    ) -> None:
        self.jobs = len(moments)
        self.accepted = 0
        self.refused = 0
        self.broken = 0
        self.kinds: Counter[str] = Counter()
        self.violations: list[str] = []
        self._system = system
        self._work_list = list(zip(moments, plain(0, len(moments)) if asks is None else asks, strict=True))
        self._lock = threading.Lock()
        self._taken = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,), name=f"client-{n}") for n in range(clients)]

    @property
    def is_done(self) -> bool:
        """Tell whether every job was accepted, and everything said about it."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self, seconds: float) -> bool:
        """Wait until the clients are done, at most so long. Returns whether they are."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return self.is_done

    def __enter__(self) -> "Load":
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, seed: int) -> None:
        client = _Client(self._system)
        chance = random.Random(seed)
        try:
            while not self._stop.is_set():
                with self._lock:
                    number, self._taken = self._taken, self._taken + 1
                if number >= self.jobs:
                    return
                moment, ask = self._work_list[number]
                self._stop.wait(max(0.0, self._start + moment - time.monotonic()))
                self._serve(client, ask, chance)
        except Exception as error:
            self.violations.append(f"client: {error!r}")
            raise
        finally:
            client.close()

    def _serve(self, client: "_Client", ask: Ask, chance: random.Random) -> None:
        """Have one job accepted, and tell it what its client wants of it."""
        job = self._submit(client, ask)
        if job is None:
            return
        with self._lock:
            self.accepted += 1
            self.kinds[ask.kind] += 1
        if ask.name:
            # Once more, as a client does that has lost the answer.
            self._submit(client, ask)
        if ask.kind in (Kind.CANCEL, Kind.RERUN):
            self._stop.wait(chance.uniform(0, BEFORE_CANCEL_SECONDS))
            if self._cancel(client, ask, job) and ask.kind is Kind.RERUN:
                self._rerun(client, ask, job)

    def _submit(self, client: "_Client", ask: Ask) -> UUID | None:
        """Return the job's id, which is in the ledger then; None if there was no time left."""
        body = json.dumps({"instances": samples.numbers(ask.model, ask.first, ask.rows).tolist()})
        told = self._told(client, ask, f"/v2/models/{ask.model}/infer", body, dict(ask.headers) | JSON)
        if told is None:
            return None
        job = UUID(told.headers["X-Inference-Id"])
        keeps = ask.kind is not Kind.FORGET
        entry = Entry(
            job,
            ask.model,
            ask.first,
            ask.rows,
            told.asked,
            time.time(),
            ask.may_end,
            ask.name,
            ask.order,
            ask.ttl,
            keeps,
        )
        self._system.ledger.note(entry)
        return job

    def _cancel(self, client: "_Client", ask: Ask, job: UUID) -> bool:
        """Cancel; what the answer says is noted. Returns whether it was this client that has ended the job."""
        # What was not answered may have happened, or may still happen.
        self._system.ledger.note(Change(job, ("succeeded", "cancelled")))
        told = self._told(client, ask, f"/api/jobs/{job}/cancel/", "", {}, also=409)
        if told is not None and told.status == 202:
            self._system.ledger.note(Change(job, ("cancelled",)))
            return True
        if told is not None and not told.in_doubt:
            self._system.ledger.note(Change(job, ("succeeded",)))
        return False

    def _rerun(self, client: "_Client", ask: Ask, job: UUID) -> None:
        self._system.ledger.note(Change(job, ("succeeded", "cancelled"), reruns=1))
        told = self._told(client, ask, f"/api/jobs/{job}/rerun/", "", {}, also=409)
        if told is None:
            return
        if told.status == 409 and not told.in_doubt:
            self.violations.append(f"answer: job {job} was cancelled and may not be run again")
        self._system.ledger.note(Change(job, ("succeeded",), reruns=1))

    def _told(
        self, client: "_Client", ask: Ask, path: str, body: str, headers: dict[str, str], *, also: int = 202
    ) -> "_Told | None":
        """Ask until the answer is a 202 or `also`. None: there was no time left, or an answer that must not be."""
        in_doubt = False
        while not self._stop.is_set():
            asked = time.time()
            answer = client.post(path, body, headers, self._system.keys[ask.team])
            if answer is None:
                with self._lock:
                    self.broken += 1
            elif answer.status in (202, also):
                return _Told(answer.status, answer.headers, asked, in_doubt)
            elif answer.status == REFUSED:
                with self._lock:
                    self.refused += 1
            else:
                self.violations.append(f"answer: {answer.status} {answer.text[:500]}")
                return None
            in_doubt = True
            self._stop.wait(PAUSE_SECONDS)
        return None


@dataclass(frozen=True, slots=True)
class _Told:
    """A definite answer; `in_doubt`: an earlier one was lost, so it may be about what this client itself has done."""

    status: int
    headers: Mapping[str, str]
    asked: float
    in_doubt: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    text: str


class _Client:
    """One connection, which opens itself again."""

    def __init__(self, system: System) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(system.stack.url).netloc, timeout=ANSWER_SECONDS)

    def post(self, path: str, body: str, headers: dict[str, str], key: str) -> _Answer | None:
        """Return the answer; None if the connection broke."""
        try:
            self._connection.request("POST", path, body, headers | {"Authorization": f"Bearer {key}"})
            answer = self._connection.getresponse()
            return _Answer(answer.status, answer.headers, answer.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
