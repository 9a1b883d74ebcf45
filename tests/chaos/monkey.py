"""Kills and freezes whatever there is, at random moments that a seed decides."""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from tests.chaos import victims
from tests.chaos.system import System

# How often each is hit, in relation to the others.
WEIGHTS = {
    "portal": 2,
    "portal child": 2,
    "dispatcher": 4,
    "worker": 3,
    "worker child": 6,
    "isolated worker": 1,
    "isolated worker child": 1,
    "recorder": 3,
    "recorder child": 4,
}
FROZEN_SHARE = 0.25
FROZEN_SECONDS = (1.0, 8.0)
# One blow in so many hits a server instead.
SERVER_EVERY = 25
SERVER_AWAY_SECONDS = (0.0, 5.0)
LOOK_SECONDS = 0.1
BACK_WITHIN_SECONDS = 90.0


@dataclass(slots=True)
class Blow:
    """One blow of the plan, and what came of it. `after` and `seconds` are counted from the start and from the blow."""

    after: float
    victim: str
    act: str
    seconds: float = 0.0
    # Epoch; None: not struck yet.
    struck: float | None = None
    # Seconds until the killed process (or server) was there again; None: not yet, or it was only frozen.
    back: float | None = None

    @property
    def kills(self) -> bool:
        """Tell whether the victim had to be started again."""
        return self.act != "freeze"


def plan(seed: int, blows: int, seconds: float, *, server_every: int) -> list[Blow]:
    """Choose times, victims and acts, the same for the same seed; each `server_every`th hits a server (0: none)."""
    chance = random.Random(seed)
    times = sorted(chance.uniform(0, seconds) for _ in range(blows))
    planned = []
    for number, after in enumerate(times, start=1):
        if server_every and number % server_every == server_every // 2:
            # The broker and the database in turn.
            server = ("broker", "database")[number // server_every % 2]
            act = "kill" if server == "broker" else chance.choice(("kill", "stop at once"))
            planned.append(Blow(after, server, act, chance.uniform(*SERVER_AWAY_SECONDS)))
            continue
        (victim,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        if chance.random() < FROZEN_SHARE:
            planned.append(Blow(after, victim, "freeze", chance.uniform(*FROZEN_SECONDS)))
        else:
            planned.append(Blow(after, victim, "kill"))
    return planned


class Monkey:
    """Carries out a plan."""

    def __init__(self, system: System, planned: list[Blow], seed: int) -> None:
        self.blows = planned
        self.violations: list[str] = []
        self._system = system
        self._random = random.Random(seed)
        self._missing: list[tuple[Blow, psutil.Process, int]] = []
        self._frozen: list[tuple[float, psutil.Process]] = []
        self._restarts: dict[str, threading.Thread] = {}

    @property
    def struck(self) -> int:
        """How many blows were struck."""
        return sum(blow.struck is not None for blow in self.blows)

    def run(self, tick: Callable[[], None]) -> None:
        """Strike each blow when it is due and its victim is there, then wait until everything is back."""
        start = time.monotonic()
        try:
            for blow in self.blows:
                self._wait(lambda blow=blow: time.monotonic() - start >= blow.after, float("inf"), tick)
                if not self._wait(lambda blow=blow: self._strike(blow), BACK_WITHIN_SECONDS, tick):
                    self.violations.append(f"gone: there is no {blow.victim} {BACK_WITHIN_SECONDS:.0f} s later")
            if not self._wait(self._all_back, BACK_WITHIN_SECONDS, tick):
                gone = ", ".join(sorted({blow.victim for blow, _, _ in self._missing}))
                self.violations.append(f"gone: not back after {BACK_WITHIN_SECONDS:.0f} s: {gone}")
        finally:
            for _, process in self._frozen:
                with contextlib.suppress(psutil.Error):
                    process.resume()
            for thread in self._restarts.values():
                thread.join()

    def _wait(self, condition: Callable[[], bool], seconds: float, tick: Callable[[], None]) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self._look()
            tick()
            time.sleep(LOOK_SECONDS)
        return True

    def _strike(self, blow: Blow) -> bool:
        """Strike, if the victim is there."""
        if blow.victim in ("broker", "database"):
            return self._restart(blow)
        alive = victims.processes(self._system.stack)[blow.victim]
        if not alive:
            return False
        process = self._random.choice(alive)
        blow.struck = time.time()
        with contextlib.suppress(psutil.NoSuchProcess):
            if blow.act == "freeze":
                process.suspend()
                self._frozen.append((time.monotonic() + blow.seconds, process))
            else:
                process.kill()
                self._missing.append((blow, process, len(alive)))
        return True

    def _restart(self, blow: Blow) -> bool:
        if (thread := self._restarts.get(blow.victim)) is not None and thread.is_alive():
            return False
        blow.struck = time.time()
        self._restarts[blow.victim] = threading.Thread(target=self._away, args=(blow,), name=blow.victim)
        self._restarts[blow.victim].start()
        return True

    def _away(self, blow: Blow) -> None:
        """Take a server away for a while; the other blows go on."""
        server = self._system.node if blow.victim == "broker" else self._system.postgres
        assert server is not None
        assert blow.struck is not None
        try:
            if blow.act == "kill":
                server.kill9()
            else:
                assert self._system.postgres is not None
                self._system.postgres.stop(immediate=True)
            time.sleep(blow.seconds)
            server.start()
            blow.back = time.time() - blow.struck
        except Exception as error:
            self.violations.append(f"gone: the {blow.victim} did not start again: {error}")

    def _look(self) -> None:
        """Wake who was frozen long enough, and note who is back."""
        now = time.monotonic()
        for until, process in self._frozen:
            if until <= now:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
        self._frozen = [(until, process) for until, process in self._frozen if until > now]
        if self._missing:
            alive = victims.processes(self._system.stack)
            for blow, victim, count in self._missing:
                there = alive[blow.victim]
                if victim not in there and len(there) >= count:
                    assert blow.struck is not None
                    blow.back = time.time() - blow.struck
            self._missing = [missing for missing in self._missing if missing[0].back is None]

    def _all_back(self) -> bool:
        return not self._missing and not self._frozen and not any(t.is_alive() for t in self._restarts.values())
