"""500 clients wait at once on the portal as it comes, others follow jobs, and all the rest is still answered."""

import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import psutil
import pytest
from django.conf import settings

from tests.acceptance.test_main_path import data, direct
from tests.chaos.brake import stopped
from tests.stack import Stack, wait_for

CLIENTS = 500
STREAMS = settings.MAX_EVENT_STREAMS
ROWS, _ = data("wine", 50)
INFER = "/v2/models/wine/infer"
QUICKLY = 1.0
# The pool's, and one each to listen for those who wait and those who follow.
MOST_CONNECTIONS = 16 + 2
# What a process may usually have open.
MOST_FILES = 1024


class House:
    """A portal on which 500 clients wait and all places for event streams are taken; its workers are stopped."""

    def __init__(self, stack: Stack, leaving: ExitStack) -> None:
        self.stack = stack
        self._workers = leaving.enter_context(ExitStack())
        self._workers.enter_context(stopped(stack))
        self.job = stack.infer("wine", {"instances": ROWS[:1].tolist()}, Prefer="respond-async").json()["Id"]
        self.clients = [leaving.enter_context(waiting(stack, i, 120)) for i in range(CLIENTS)]
        self.streams = [leaving.enter_context(following(stack, self.job)) for _ in range(STREAMS)]

    def let_workers_go_on(self) -> None:
        self._workers.close()

    @property
    def portal(self) -> psutil.Process:
        """The process that answers; its parent only watches it."""
        return max(self.stack.processes("granian"), key=psutil.Process.num_threads)


@pytest.fixture(scope="module", params=["embedded", "full"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with ExitStack() as leaving:
        yield House(request.getfixturevalue(f"{request.param}_stack"), leaving)


@contextmanager
def waiting(stack: Stack, i: int, seconds: int) -> Iterator[HTTPConnection]:
    """Ask for a prediction and don't look at the answer yet."""
    job_id = str(uuid4())
    headers = {"X-Inference-Id": job_id, "Prefer": f"wait={seconds}", "Content-Type": "application/json"}
    body = json.dumps({"instances": ROWS[[i % len(ROWS)]].tolist()})
    with connected(stack) as connection:
        connection.request("POST", INFER, body, headers | authorized(stack))
        if i % 20 == 0 or i >= CLIENTS - 1:
            # It waits: its job is stored after it has taken its place. A crowd at the door is another test's subject.
            wait_for(lambda: stack.client.get(f"/status/wine/{job_id}").status_code == 200, 60, stack.logs)
        yield connection


@contextmanager
def following(stack: Stack, job_id: str) -> Iterator[tuple[HTTPConnection, HTTPResponse]]:
    """Follow a job's events; come again until there is a place."""
    end = time.monotonic() + 30
    while True:
        with connected(stack) as connection:
            connection.request("GET", f"/api/jobs/{job_id}/events/", headers=authorized(stack))
            answer = connection.getresponse()
            if answer.status == 200:
                yield connection, answer
                return
            assert (answer.status, time.monotonic() < end) == (503, True), answer.read()
        time.sleep(0.5)


def connected(stack: Stack) -> closing[HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", stack.port, timeout=90))


def authorized(stack: Stack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.api_key}"}


def hang_up(connection: HTTPConnection) -> None:
    """Leave without a good-bye: the other side gets a reset, as from a machine that has crashed."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def quickly(ask: Callable[[], httpx.Response]) -> httpx.Response:
    begun = time.monotonic()
    answer = ask()
    assert time.monotonic() - begun < QUICKLY
    return answer


def test_all_others_are_answered_meanwhile(house: House) -> None:
    stack = house.stack
    for path in ("/healthz", "/readyz", f"/status/wine/{house.job}", "/v2/models/wine", f"/api/jobs/{house.job}/"):
        assert quickly(lambda path=path: stack.client.get(path)).status_code == 200
    assert quickly(lambda: stack.client.get(f"/result/wine/{house.job}")).status_code == 202
    rows = {"instances": ROWS.tolist()}
    assert quickly(lambda: stack.infer("wine", rows, Prefer="respond-async")).status_code == 202


def test_a_client_that_waits_takes_neither_database_connections_nor_many_files(house: House) -> None:
    to_postgres = [c for c in house.portal.net_connections("tcp") if c.raddr and c.raddr.port == postgres_port(house)]
    assert len(to_postgres) <= MOST_CONNECTIONS
    assert house.portal.num_fds() < MOST_FILES


def postgres_port(house: House) -> int:
    return httpx.URL(house.stack.environment.get("DATABASE_URL", "")).port or 5432


def test_waiting_takes_hardly_any_processor_time(house: House) -> None:
    def used() -> float:
        times = house.portal.cpu_times()
        return times.user + times.system

    before = used()
    time.sleep(2)
    assert used() - before < 0.3


def test_who_finds_no_place_is_told_so_or_gets_202_at_once(house: House) -> None:
    stack = house.stack
    rows = {"instances": ROWS.tolist()}
    with ExitStack() as others:
        last = [others.enter_context(waiting(stack, i, 6)) for i in range(CLIENTS, settings.MAX_WAITERS)]
        assert refused(stack)
        asynchronous = quickly(lambda: stack.infer("wine", rows, Prefer="respond-async, wait=5"))
        assert asynchronous.status_code == 202
        assert asynchronous.headers["Preference-Applied"] == "respond-async"
        # A long poll without a place is a short one.
        for path, status in ((f"/status/wine/{house.job}?wait=5", 200), (f"/result/wine/{house.job}?wait=5", 202)):
            assert quickly(lambda path=path: stack.client.get(path)).status_code == status
        for connection in last:
            hang_up(connection)
    # The places come back when the time is over for which they were taken.
    wait_for(lambda: not refused(stack), 15, lambda: "there is no place")


def refused(stack: Stack) -> bool:
    """Tell whether there is no place to wait; then nothing was queued."""
    headers = {"X-Inference-Id": str(uuid4()), "Prefer": "wait=1"}
    answer = stack.client.post(INFER, json={"instances": ROWS.tolist()}, headers=headers)
    if answer.status_code == 504:
        return False
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/no-place-to-wait")
    assert int(answer.headers["Retry-After"]) >= 1
    assert stack.client.get("/status/wine", headers={"X-Inference-Id": headers["X-Inference-Id"]}).status_code == 404
    return True


def test_places_of_event_streams_come_back_when_their_clients_hang_up(house: House) -> None:
    path = f"/api/jobs/{house.job}/events/"
    answer = quickly(lambda: house.stack.client.get(path))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/no-place-to-wait")
    assert int(answer.headers["Retry-After"]) >= 1
    for connection, _ in house.streams:
        hang_up(connection)
    with ExitStack() as leaving:
        again = [leaving.enter_context(following(house.stack, house.job)) for _ in range(STREAMS)]
        assert [answer.status for _, answer in again] == [200] * STREAMS


def test_everybody_is_answered_with_the_own_result_once_workers_go_on(house: House, store: Path) -> None:
    house.let_workers_go_on()
    expected = direct(store, "wine", ROWS)
    for i, client in enumerate(house.clients):
        answer = client.getresponse()
        body = json.loads(answer.read())
        assert answer.status == 200, body
        assert np.array_equal(np.float32(body["predictions"][0]["probability"]), expected[i % len(ROWS)])
