"""Jobs in every order of events that hypothesis finds; the machine itself is in machine.py.

HYPOTHESIS_SEQUENCES=5000 runs so many sequences instead of a few.
"""

import logging
import os
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from inference_portal.jobs.states import Event
from tests.integration import rows
from tests.integration.machine import Machine

SEQUENCES = int(os.environ.get("HYPOTHESIS_SEQUENCES", "80"))
STEPS = 50


@pytest.mark.django_db(transaction=True)
def test_whatever_happens_in_whatever_order_every_job_stays_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    teams = tuple(rows.make_team(name).id for name in ("one", "two"))
    monkeypatch.setattr(Machine, "teams", teams)
    monkeypatch.setattr(Machine, "happened", Counter())
    rows.make_worker("cpu", "cpu.isolated", seen_at=timezone.now() + timedelta(days=1))
    # No lease ends by itself, however slow this machine is.
    monkeypatch.setattr(django_settings, "CLAIM_SECONDS", 7200.0)
    monkeypatch.setattr(django_settings, "LEASE_SECONDS", 7200.0)
    wanted = settings(
        max_examples=SEQUENCES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize="HYPOTHESIS_SEQUENCES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=True,
    )
    monkeypatch.setattr(logging.root.manager, "disable", logging.WARNING)
    begun = time.monotonic()
    run_state_machine_as_test(Machine, settings=wanted)
    steps, seconds = Machine.happened["steps"], time.monotonic() - begun
    print(f"{SEQUENCES} sequences, {steps} steps in {seconds:.1f} s, {steps / seconds:.0f} a second")
    # Everything that the table of states knows has happened, or this has tested nothing.
    assert {event for event in Event if Machine.happened[event]} == set(Event) - {Event.DISPATCH}
