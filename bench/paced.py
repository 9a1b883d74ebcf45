"""`python -m bench.paced URL KEY RATE SECONDS`: so many requests a second, each waiting for its answer.

When one is late the next ones come all the same, and a request's time counts from when it was due.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from bench.clients import Client, wait_on_connection

CLIENTS = 32


def run(url: str, key: str, rate: float, seconds: float) -> list[float]:
    """Return the seconds of each request, in their order. Raises what a request raised."""
    clients: SimpleQueue[Client] = SimpleQueue()
    for _ in range(CLIENTS):
        clients.put(Client(url, key))
    begun = time.perf_counter()

    def ask(due: float) -> float:
        client = clients.get()
        wait_on_connection(client)
        clients.put(client)
        return time.perf_counter() - due

    with ThreadPoolExecutor(CLIENTS) as threads:
        asked = []
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            asked.append(threads.submit(ask, due))
        return [each.result() for each in asked]


if __name__ == "__main__":
    url, key, rate, seconds = sys.argv[1:]
    json.dump(run(url, key, float(rate), float(seconds)), sys.stdout)
