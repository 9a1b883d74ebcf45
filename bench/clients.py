"""The load: clients that keep their connection and send one request after the other (standard library: quick)."""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from models_store.samples import WINE

BODY = json.dumps({"inputs": [{"name": "table", "shape": [1, 13], "datatype": "FP32", "data": WINE}]})


class Client:
    """One connection."""

    def __init__(self, url: str, key: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, bytes]:
        """Send one request and return status and body."""
        self._connection.request(method, path, body, self._headers | headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def submit_and_fetch(client: Client) -> tuple[float, float]:
    """Submit, then wait for the result by long poll. Returns the seconds until accepted, and until the result."""
    start = time.perf_counter()
    status, body = client.send("POST", "/v2/models/wine/infer", BODY, Prefer="respond-async")
    accepted = time.perf_counter()
    assert status == 202, body
    path = json.loads(body)["ResultPath"]
    while (status := client.send("GET", f"{path}?wait=20")[0]) == 202:
        pass
    assert status == 200
    return accepted - start, time.perf_counter() - start


def wait_on_connection(client: Client) -> tuple[float, float]:
    """Send and wait on the connection. Returns the seconds, twice."""
    start = time.perf_counter()
    status, body = client.send("POST", "/v2/models/wine/infer", BODY)
    assert status == 200, body
    seconds = time.perf_counter() - start
    return seconds, seconds


def nothing(client: Client) -> tuple[float, float]:
    """Ask the portal for next to nothing: what HTTP alone costs here."""
    start = time.perf_counter()
    assert client.send("GET", "/healthz")[0] == 200
    seconds = time.perf_counter() - start
    return seconds, seconds


KINDS: dict[str, Callable[[Client], tuple[float, float]]] = {
    "submit, then fetch": submit_and_fetch,
    "wait on the connection": wait_on_connection,
    "HTTP alone (/healthz)": nothing,
}


def run(url: str, key: str, kind: str, clients: int, seconds: float) -> list[tuple[float, float]]:
    """Run `clients` clients for so many seconds. Returns what each request measured. Raises what a client raised."""
    measured: list[tuple[float, float]] = []
    errors: list[Exception] = []
    end = time.perf_counter() + seconds

    def work() -> None:
        client = Client(url, key)
        try:
            while time.perf_counter() < end:
                measured.append(KINDS[kind](client))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return measured


if __name__ == "__main__":
    url, key, kind, clients, seconds = sys.argv[1:]
    json.dump(run(url, key, kind, int(clients), float(seconds)), sys.stdout)
