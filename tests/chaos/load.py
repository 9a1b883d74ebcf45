"""Clients that submit jobs without waiting for them, for as long as the faults last."""

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit
from uuid import UUID

from tests.chaos import samples
from tests.chaos.ledger import Entry
from tests.chaos.system import System

# A client that was let down pauses for so long; the next one may find the portal back.
PAUSE_SECONDS = 0.2
# Longer than any victim is frozen.
ANSWER_SECONDS = 20.0
# A refusal that the system promises to be harmless: nothing was accepted, or nobody was told.
REFUSED = frozenset({503})
FIRST_SAMPLES = 1000
MOST_ROWS = 4
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

    Only a 202 counts. A broken connection and a 503 are allowed, and the client goes on; anything else is a violation.
    """

    def __init__(self, system: System, moments: Sequence[float], *, clients: int = 4, seed: int = 0) -> None:
        self.jobs = len(moments)
        self.refused = 0
        self.broken = 0
        self.violations: list[str] = []
        self._system = system
        self._moments = moments
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._taken = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"client-{n}") for n in range(clients)]

    @property
    def accepted(self) -> int:
        """How many jobs are in the ledger."""
        return self._system.ledger.count

    @property
    def is_done(self) -> bool:
        """Tell whether every job was accepted."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self, seconds: float) -> bool:
        """Wait until every job was accepted, at most so long. Returns whether they were."""
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

    def _work(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self._system.stack.url).netloc, timeout=ANSWER_SECONDS)
        try:
            while not self._stop.is_set():
                with self._lock:
                    number, self._taken = self._taken, self._taken + 1
                    model, first = self._random.choice(samples.MODELS), self._random.randrange(FIRST_SAMPLES)
                    rows = self._random.randint(1, MOST_ROWS)
                if number >= self.jobs:
                    return
                self._stop.wait(max(0.0, self._start + self._moments[number] - time.monotonic()))
                while not self._stop.is_set() and not self._submit(connection, model, first, rows):
                    self._stop.wait(PAUSE_SECONDS)
        except Exception as error:
            self.violations.append(f"client: {error!r}")
            raise
        finally:
            connection.close()

    def _submit(self, connection: http.client.HTTPConnection, model: str, first: int, rows: int) -> bool:
        """Send one job on this connection, which opens itself again. Returns whether it was accepted and noted."""
        body = json.dumps({"instances": samples.numbers(model, first, rows).tolist()})
        headers = {"Authorization": f"Bearer {self._system.stack.api_key}", "Prefer": "respond-async"}
        asked = time.time()
        try:
            connection.request("POST", f"/v2/models/{model}/infer", body, headers | JSON)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            connection.close()
            with self._lock:
                self.broken += 1
            return False
        if answer.status == 202:
            self._system.ledger.note(Entry(UUID(answer.headers["X-Inference-Id"]), model, first, rows, asked))
            return True
        with self._lock:
            if answer.status in REFUSED:
                self.refused += 1
            else:
                self.violations.append(f"answer: {answer.status} {text[:500]}")
        return False
