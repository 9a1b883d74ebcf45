"""Schedules in the console: the list, a schedule's page, the form, the buttons."""

from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.batches.models import Batch
from inference_portal.batches.schedules.models import Schedule
from inference_portal.batches.schedules.tick import tick
from tests.integration import rows
from tests.integration.http import session
from tests.integration.schedules import DAY, batch, folder, make_schedule

pytestmark = pytest.mark.django_db
URL = "/admin/batches/schedule/"


@pytest.fixture
def browser(team: Team) -> Client:
    return session(team, role=Role.SUBMITTER)


def fields(team: Team, **more: Any) -> dict[str, Any]:
    return {
        "name": "nightly",
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "catch_up": "latest",
        "overlap": "queue",
        "model": "wine",
        "uri": f"{folder(team)}/{{{{ day }}}}.csv",
        "output_format": "csv",
        "retry_policy": "none",
        "deadline_seconds": "3600",
        "more": '{"keep_columns": ["id"], "input": {"delimiter": ";"}}',
        "rehearse_before": "7200",
        "rehearse_rows": "500",
        "enabled": "on",
    } | more


def shown(answer: Any) -> str:
    return unescape(answer.content.decode())


def test_one_is_made_by_the_form_shown_and_changed(browser: Client, team: Team) -> None:
    assert "Cron line" in shown(browser.get(f"{URL}add/"))
    page = shown(browser.post(f"{URL}add/", fields(team), follow=True))
    schedule = Schedule.objects.get()
    assert "The schedule 'nightly' was made." in page and 'data-open="5000"' in page
    assert "30 2 * * * (Europe/Berlin)" in page and "02:30:00 CE" in page and "It has had no run yet." in page
    assert schedule.batch == {
        "model": "wine",
        "input": {"uri": f"{folder(team)}/{{{{ day }}}}.csv", "delimiter": ";"},
        "output": {"format": "csv"},
        "retry_policy": "none",
        "keep_columns": ["id"],
        "deadline_seconds": 3600,
    }
    assert (schedule.rehearsal, schedule.overlap) == ({"before_seconds": 7200, "rows": 500}, "queue")
    form = shown(browser.get(f"{URL}{schedule.id}/edit/"))
    assert 'value="30 2 * * *"' in form and '"delimiter": ";"' in form and 'value="3600"' in form
    changed = fields(team, cron="", every_seconds="600", rehearse_before="", enabled="")
    assert "The schedule was changed." in shown(browser.post(f"{URL}{schedule.id}/edit/", changed, follow=True))
    after = Schedule.objects.get()
    assert (after.cron, after.every_seconds, after.rehearsal, after.enabled) == ("", 600, None, False)
    assert after.batch == schedule.batch
    listed = shown(browser.get(URL))
    assert "nightly" in listed and "every 600 seconds" in listed and ">wine<" in "".join(listed.split())
    # A page of one that is due shows its runs as they come; there is none to come of one that is off.
    assert "data-open" not in shown(browser.get(f"{URL}{schedule.id}/change/"))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"cron": "0 0 30 2 *"}, "It is never due"),
        ({"cron": ""}, "Expected one of cron, every_seconds, at."),
        ({"timezone": "Mars"}, "There is no time zone 'Mars'"),
        ({"uri": "s3://x/{{ dya }}"}, "There is no 'dya'; there are day"),
        ({"more": "{"}, "can't be read as JSON"),
        ({"more": "[]"}, "Expected an object"),
        ({"more": '{"chunk_rows": 0}'}, "chunk_rows: Expected a whole number"),
        ({"more": '{"wat": 0}'}, "wat: There is no such field."),
        ({"rehearse_before": "86400"}, "Expected less than the time between two runs"),
        ({"model": "gone"}, "Select a valid choice"),
        ({"name": ""}, "This field is required"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(browser: Client, team: Team, wrong: dict[str, Any], text: str) -> None:
    page = shown(browser.post(f"{URL}add/", fields(team, **wrong)))
    assert "Nothing was stored" in page and text in page
    assert not Schedule.objects.exists()


def test_runs_are_shown_with_what_became_of_them(browser: Client, team: Team) -> None:
    schedule = make_schedule(team, start=timezone.now() - 3 * DAY)
    tick()
    page = shown(browser.get(f"{URL}{schedule.id}/change/"))
    made = Batch.objects.get()
    assert f"/admin/batches/batch/{made.id}/change/" in page
    assert "queued" in page and "catch_up is 'latest'" in page and "skipped" in page


def test_the_buttons_run_it_turn_it_off_and_remove_it(browser: Client, team: Team) -> None:
    schedule = make_schedule(team, start=timezone.now())
    place = f"{URL}{schedule.id}"
    assert browser.get(f"{place}/run-now/").status_code == 405
    assert "A run was made." in shown(browser.post(f"{place}/run-now/", follow=True))
    assert "A run of this schedule is under way" in shown(browser.post(f"{place}/run-now/", follow=True))
    assert "The schedule is off." in shown(browser.post(f"{place}/turn/", {"enabled": "0"}, follow=True))
    assert "The schedule is on" in shown(browser.post(f"{place}/turn/", {"enabled": "1"}, follow=True))
    assert "its batches stay" in shown(browser.post(f"{place}/remove/", follow=True))
    assert (Schedule.objects.count(), Batch.objects.count()) == (0, 1)
    assert "There is no schedule" in shown(browser.post(f"{place}/run-now/", follow=True))


def test_what_cannot_be_made_by_hand_is_told(browser: Client, team: Team) -> None:
    schedule = make_schedule(team, batch=batch(team, chunk_rows=0))
    assert "/chunk_rows" in shown(browser.post(f"{URL}{schedule.id}/run-now/", follow=True))


def test_a_viewer_reads_only_and_another_team_sees_nothing(team: Team) -> None:
    schedule = make_schedule(team, batch=batch(team, model="gone"))
    viewer, stranger = session(team, role=Role.VIEWER), session(rows.make_team("other"), role=Role.SUBMITTER)
    page = shown(viewer.get(f"{URL}{schedule.id}/change/"))
    assert "nightly" in page and "Run now" not in page
    for path in ("run-now", "turn", "remove", "edit"):
        assert viewer.post(f"{URL}{schedule.id}/{path}/").status_code == 403
        assert "There is no schedule" in shown(stranger.post(f"{URL}{schedule.id}/{path}/", follow=True))
    assert viewer.get(f"{URL}add/").status_code == 403
    assert "There is no schedule" in shown(stranger.get(f"{URL}{schedule.id}/change/", follow=True))
    assert "nightly" not in shown(stranger.get(URL))
    assert Schedule.objects.count() == 1
