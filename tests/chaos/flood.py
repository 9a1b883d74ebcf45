"""Clients of several teams that submit asynchronously at a rate of their own, whatever they are answered."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from tests.chaos import samples
from tests.chaos.ledger import Entry, Ledger


@dataclass(frozen=True, slots=True)
class Answer:
    """When it was sent (monotonic seconds), how long the answer took, and what it said; status 0: none came."""

    sent: float
    seconds: float
    status: int
    retry_after: str = ""
    detail: str = ""


class Flood:
    """`rate` requests a second in all, by `clients` connections, with the keys in turn; a context manager.

    Each has `rows` rows. With `total` it ends after so many; what was accepted is noted in the ledger.
    """

    def __init__(
        self,
        url: str,
        keys: Sequence[str],
        ledger: Ledger,
        *,
        rate: float,
        clients: int,
        rows: int,
        model: str = "wine",
        total: int | None = None,
    ) -> None:
        self.answers: list[Answer] = []
        self._netloc = urlsplit(url).netloc
        self._ledger, self._rate, self._rows, self._model = ledger, rate, rows, model
        self._tickets = iter(zip(range(total) if total is not None else itertools.count(), itertools.cycle(keys)))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._bodies = [json.dumps({"instances": samples.numbers(model, first, rows).tolist()}) for first in range(100)]
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> "Flood":
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until every client has ended."""
        for thread in self._threads:
            thread.join()

    def statuses(self) -> Counter[int]:
        """Return how often each status was the answer."""
        return Counter(answer.status for answer in self.answers)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._netloc, timeout=60)
        while not self._stop.is_set():
            with self._lock:
                ticket = next(self._tickets, None)
            if ticket is None:
                return
            number, key = ticket
            if self._stop.wait(max(0.0, self._began + number / self._rate - time.monotonic())):
                return
            self.answers.append(self._submit(connection, number % len(self._bodies), key))

    def _submit(self, connection: http.client.HTTPConnection, first: int, key: str) -> Answer:
        headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "Prefer": "respond-async",
        }
        sent = time.monotonic()
        try:
            connection.request("POST", f"/v2/models/{self._model}/infer", self._bodies[first], headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Answer(sent, time.monotonic() - sent, 0, detail=repr(error))
        seconds = time.monotonic() - sent
        if answer.status == 202:
            job = UUID(answer.headers["X-Inference-Id"])
            self._ledger.note(Entry(job, self._model, first, self._rows, time.time()))
            return Answer(sent, seconds, 202)
        detail = text.decode(errors="replace")
        return Answer(sent, seconds, answer.status, answer.headers.get("Retry-After", ""), detail)
