"""The pages of webhooks and deliveries: who may do what, the key that is shown once, the filters."""

import re
from typing import Any

import pytest
from django.test import Client

from inference_portal.accounts.models import Role, Team
from inference_portal.deliveries.models import Delivery, Endpoint
from inference_portal.deliveries.states import State
from inference_portal.jobs.states import State as JobState
from tests.integration import rows
from tests.integration.deliveries import URL, make_delivery, make_endpoint
from tests.integration.http import session

pytestmark = pytest.mark.django_db
LIST, ADD = "/admin/deliveries/endpoint/", "/admin/deliveries/endpoint/add/"
DELIVERIES = "/admin/deliveries/delivery/"
KEY = re.compile(r"whsec_[\w+/]+=*")


def page_of(endpoint: Endpoint) -> str:
    return f"{LIST}{endpoint.id}/change/"


def act(browser: Client, endpoint: Endpoint, action: str, **fields: Any) -> Any:
    return browser.post(f"{LIST}{endpoint.id}/{action}/", fields)


def test_a_webhook_is_registered_changed_and_removed_and_each_key_is_shown_once(team: Team) -> None:
    browser = session(team, role=Role.SUBMITTER)
    for url, reason in (("", "printable ASCII"), ("http://127.0.0.1/", "public address"), ("ftp://x/", "http://")):
        refused = browser.post(ADD, {"url": url})
        assert refused.status_code == 200 and reason in refused.content.decode()
    assert "Select a valid choice" in browser.post(ADD, {"url": URL, "events": ["nothing"]}).content.decode()
    assert not Endpoint.objects.exists()
    asked = {"url": URL, "events": ["inference.job.*", "inference.batch.failed"], "enabled": "on"}
    made = browser.post(ADD, asked)
    endpoint = Endpoint.objects.get()
    assert made["Location"] == page_of(endpoint)
    assert (endpoint.team, endpoint.url, endpoint.enabled, endpoint.events) == (team, URL, True, asked["events"])
    # Not for a colleague who happens to look first.
    colleague = session(team, role=Role.SUBMITTER)
    assert not KEY.search(colleague.get(page_of(endpoint)).content.decode())
    assert KEY.findall(browser.get(page_of(endpoint)).content.decode()) == [endpoint.secret]
    assert not KEY.search(browser.get(page_of(endpoint)).content.decode())

    assert act(browser, endpoint, "rotate")["Location"] == page_of(endpoint)
    before = endpoint.secret
    endpoint.refresh_from_db()
    assert endpoint.keys == [endpoint.secret, before]
    shown = browser.get(page_of(endpoint)).content.decode()
    assert KEY.findall(shown) == [endpoint.secret] and "The key before signs, too" in shown

    # What came through the API stays in the form, and what is on its way to an address that moves isn't sent.
    Endpoint.objects.update(events=["inference.batch.chunk_*"], disabled_reason="410")
    on_its_way = Delivery.objects.get(id=act(browser, endpoint, "test")["Location"].split("/")[-3])
    form = browser.get(f"{LIST}{endpoint.id}/edit/").content.decode()
    assert re.search(r'value="inference.batch.chunk_\*"[^>]*checked', form)
    assert act(browser, endpoint, "edit", url="").status_code == 200
    assert act(browser, endpoint, "edit", url=f"{URL}/2", events=[])["Location"] == page_of(endpoint)
    endpoint.refresh_from_db()
    on_its_way.refresh_from_db()
    assert (endpoint.url, endpoint.events, endpoint.enabled, endpoint.disabled_reason) == (f"{URL}/2", [], False, "")
    assert on_its_way.state == State.DISABLED
    assert act(browser, endpoint, "remove")["Location"] == LIST
    assert not Endpoint.objects.exists() and Delivery.objects.count() == 1


@pytest.mark.parametrize("who", Role)
def test_a_form_changes_no_webhook_that_its_sender_may_not_change(team: Team, who: str) -> None:
    browser, role = session(team, role=who), Role(who)
    for owner in (team, rows.make_team("other")):
        endpoint = make_endpoint(owner)
        may = role.allows(Role.SUBMITTER) and (owner == team or role == Role.OPERATOR)
        for action in ("turn", "rotate", "test", "edit", "remove"):
            before = list(Endpoint.objects.filter(id=endpoint.id).values()), Delivery.objects.count()
            answer = act(browser, endpoint, action, url=f"{URL}/moved")
            assert answer.status_code == (302 if role.allows(Role.SUBMITTER) else 403)
            after = list(Endpoint.objects.filter(id=endpoint.id).values()), Delivery.objects.count()
            assert (after != before) is may, (who, owner, action)
    assert (browser.post(ADD, {"url": URL}).status_code == 302) is role.allows(Role.SUBMITTER)
    assert set(Endpoint.objects.values_list("team__name", flat=True)) <= {team.name, "other"}


def test_deliveries_are_found_by_state_event_and_webhook_and_stand_on_their_jobs_page(team: Team) -> None:
    first, second = make_delivery(team), make_delivery(team, State.DELIVERED)
    foreign = make_delivery(rows.make_team("other"))
    job = rows.make_final(team, JobState.FAILED)
    Delivery.objects.filter(id=first.id).update(job=job, error="x" * 255, event_type="inference.job.failed")
    browser = session(team, role=Role.VIEWER)

    def found(**filters: str) -> set[str]:
        content = browser.get(DELIVERIES, filters).content.decode()
        return {str(each.id) for each in (first, second, foreign) if str(each.id) in content}

    one, other = {str(first.id)}, {str(second.id)}
    assert found() == one | other
    assert found(state="failed") == found(event_type="inference.job.failed") == one
    assert found(webhook=str(second.endpoint_id)) == other
    assert found(webhook=str(foreign.endpoint_id)) == found(webhook="x") == set()
    page = browser.get(f"/admin/jobs/job/{job.id}/change/").content.decode()
    assert f"{DELIVERIES}{first.id}/change/" in page and f"{DELIVERIES}{second.id}/" not in page
    assert "x" * 255 in browser.get(f"{DELIVERIES}{first.id}/change/").content.decode()
