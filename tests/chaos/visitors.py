"""Teams that send a request now and then and wait for its answer."""

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.chaos import samples


@dataclass(frozen=True, slots=True)
class Visit:
    """When it was due (monotonic seconds), and how many seconds later the answer was there."""

    due: float
    seconds: float
    status: int


class Visitors:
    """One client for each key, each sending `rate` requests of one row a second; a context manager.

    A visit counts from when it was due: an answer that is late delays the next request, and that counts too.
    """

    def __init__(self, url: str, keys: Sequence[str], *, rate: float, model: str) -> None:
        self.visits: list[Visit] = []
        self._netloc, self._rate, self._model = urlsplit(url).netloc, rate, model
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(key,), daemon=True) for key in keys]

    def __enter__(self) -> "Visitors":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, key: str) -> None:
        chance = random.Random(key)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self._netloc, timeout=60)
        due = time.monotonic() + chance.random() / self._rate
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            body = json.dumps({"instances": samples.numbers(self._model, chance.randrange(100), 1).tolist()})
            connection.request("POST", f"/v2/models/{self._model}/infer", body, headers)
            answer = connection.getresponse()
            answer.read()
            self.visits.append(Visit(due, time.monotonic() - due, answer.status))
            # Not in step with the others, and the same rate in the mean.
            due += 2 * chance.random() / self._rate
