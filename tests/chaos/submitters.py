"""A light load of asynchronous requests. What was promised goes into the ledger, every answer is remembered."""

import random
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from uuid import UUID

import httpx

from tests.chaos.ledger import Entry, Ledger
from tests.chaos.samples import MODELS, numbers
from tests.stack import Stack

MAX_ROWS = 3
# A client that got no answer in this time gives up; whether there is a job it can't know.
PATIENCE_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Submission:
    """One request and its answer; times are epoch seconds, status 0 means that no answer came."""

    sent: float
    answered: float
    status: int
    detail: str = ""
    id: UUID | None = None
    retry_after: str = ""


class Submitters:
    """Clients that submit one request after the other, with a pause, until the end of the context."""

    def __init__(self, stack: Stack, ledger: Ledger, *, clients: int = 2, pause: float = 0.15) -> None:
        self.submissions: list[Submission] = []
        self._stack, self._ledger, self._pause = stack, ledger, pause
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in range(clients)]

    def __enter__(self) -> "Submitters":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_SECONDS)
        if self._errors and error is None:
            raise self._errors[0]

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        headers = {"Authorization": f"Bearer {self._stack.api_key}", "Prefer": "respond-async"}
        try:
            with httpx.Client(base_url=self._stack.url, headers=headers, timeout=PATIENCE_SECONDS) as client:
                while not self._stop.is_set():
                    model, first, rows = chance.choice(MODELS), chance.randrange(100), chance.randint(1, MAX_ROWS)
                    self.submissions.append(self._submit(client, model, first, rows))
                    self._stop.wait(self._pause)
        except BaseException as error:
            self._errors.append(error)

    def _submit(self, client: httpx.Client, model: str, first: int, rows: int) -> Submission:
        body = {"instances": numbers(model, first, rows).tolist()}
        sent = time.time()
        try:
            answer = client.post(f"/v2/models/{model}/infer", json=body)
        except httpx.TransportError as error:
            return Submission(sent, time.time(), 0, repr(error))
        answered = time.time()
        if answer.status_code != 202:
            retry_after = answer.headers.get("Retry-After", "")
            return Submission(sent, answered, answer.status_code, answer.text, retry_after=retry_after)
        job = UUID(answer.json()["Id"])
        self._ledger.note(Entry(job, model, first, rows, answered))
        return Submission(sent, answered, 202, id=job)
