"""The short version: random kills, the windows that no other test opens, and bugs that the checker must catch."""

import psutil
import pytest

from tests import services
from tests.acceptance.test_crashes import EVERY_WINDOW
from tests.chaos import victims
from tests.chaos.asks import MIX
from tests.chaos.bugs.scenarios import SCENARIOS
from tests.chaos.bugs.sitecustomize import BUGS
from tests.chaos.load import Load
from tests.chaos.run import random_run
from tests.chaos.system import STACKS, System, running_system
from tests.chaos.windows import kill_in_windows, windows
from tests.stack import ROOT, wait_for

WAITING = ("worker child", "isolated worker child", "recorder child")
SHORTEST = ("no-attempt-guard", "recorder-acks-early")


@pytest.fixture(autouse=True)
def own_servers() -> None:
    """Everything here starts servers of its own."""
    services.need_postgres()
    services.need_rabbitmq()


def test_random_kills_of_everything_break_no_promise() -> None:
    report = random_run(seed=20, jobs=600, blows=30, seconds=30.0, server_every=12)
    print(report.text())
    assert report.violations == []
    assert report.accepted == 600
    assert set(report.kinds) == set(MIX)
    assert sum(blow.kills for blow in report.blows if blow.struck) >= 20


def test_a_kill_in_the_windows_that_the_crash_tests_leave_out_breaks_no_promise() -> None:
    left_out = [name for name in windows() if name not in EVERY_WINDOW]
    # A death is reported only where one dies, and the first report ends in a death itself.
    assert kill_in_windows(left_out, 1, besides="worker.before_predict=kill*8%10") == []


def test_every_known_bug_has_a_scenario_and_a_place_in_the_code() -> None:
    assert [scenario.bug for scenario in SCENARIOS] == list(BUGS)
    for bug in BUGS.values():
        source = (ROOT / bug.module.replace(".", "/")).with_suffix(".py").read_text()
        assert source.count(bug.right) == 1, bug


@pytest.mark.parametrize("name", SHORTEST)
def test_a_bug_is_caught(name: str) -> None:
    (scenario,) = (scenario for scenario in SCENARIOS if scenario.bug == name)
    found = scenario.run(with_bug=True)
    assert any(line.startswith(scenario.shows_as) for line in found), found


@pytest.mark.parametrize("kind", STACKS)
def test_children_killed_while_they_wait_for_work_are_replaced_by_some_that_get_it(kind: str) -> None:
    # `worker.received` sends a bundle's jobs through the isolation lane: its child must work too.
    with running_system(kind, LEASE_SECONDS="15", CLAIM_SECONDS="3", FAILPOINTS="worker.received=kill") as system:
        for role in WAITING * 2:
            old = victims.processes(system.stack)[role]
            assert old, role
            for process in old:
                process.kill()
            wait_for(lambda role=role, old=old: _replaced(system, role, old), 30, system.stack.logs)
        with Load(system, [0.0] * 5) as load:
            assert load.wait(30)
        assert system.check(60.0, broker_alone=True) == []


def _replaced(system: System, role: str, old: list[psutil.Process]) -> bool:
    now = victims.processes(system.stack)[role]
    return len(now) == len(old) and not set(now) & set(old)
