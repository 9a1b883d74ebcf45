"""The main paths in a real browser, against the real system."""

import json
import re
from typing import Any

from playwright.sync_api import Page, expect

from models_store.samples import WINE
from tests.browser.login import watch
from tests.chaos.brake import stopped


def test_a_person_predicts_and_finds_the_job_again(page: Page, embedded_stack: Any) -> None:
    troubles = watch(page, embedded_stack)
    page.get_by_role("link", name="New prediction").first.click()
    page.get_by_role("link", name=re.compile("^wine")).click()
    page.get_by_role("link", name="Fill with an example").click()
    first = page.get_by_label("alcohol")
    expect(first).to_have_value("14.23")

    first.fill("a lot")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_text("Enter a number, such as 1.5.")).to_be_visible()
    expect(first).to_have_value("a lot")

    first.fill("14.23")
    page.get_by_role("button", name="Predict").click()
    # The result appears by itself, and then the page stops looking.
    expect(page.get_by_text("probability of class_0")).to_be_visible(timeout=30_000)
    expect(page.locator("#job")).not_to_have_attribute("data-open", re.compile(".*"))
    expect(page.get_by_role("button", name="Cancel job")).to_have_count(0)
    job_id = page.locator("#job code").first.inner_text()

    # By its text: the name of a link includes its icon's.
    page.locator("#nav-sidebar-apps").get_by_text("Jobs", exact=True).click()
    page.get_by_role("link", name=job_id[:8]).click()
    expect(page.locator("#job code").first).to_have_text(job_id)
    expect(page.get_by_text("succeeded").first).to_be_visible()
    assert troubles == []


def test_a_person_who_guesses_is_locked_out_until_an_operator_unlocks(page: Page, embedded_stack: Any) -> None:
    page.goto(embedded_stack.url)
    for _ in range(4):
        guess(page, embedded_stack.user, "wrong")
        expect(page.get_by_role("alert")).to_have_text(re.compile("Username or password is wrong."))
    guess(page, embedded_stack.user, "wrong")
    for password in (embedded_stack.password, "wrong"):
        expect(page.get_by_role("alert")).to_have_text(re.compile("Try again in 15 minutes: .* An operator can"))
        guess(page, embedded_stack.user, password)
    embedded_stack.manage("access", "unlock", embedded_stack.user)
    assert watch(page, embedded_stack) == []


def guess(page: Page, user: str, password: str) -> None:
    """Send the login form, and wait for its answer."""
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(password)
    with page.expect_navigation():
        page.get_by_role("button", name="Log in").click()


GIVE_UP = """
from inference_portal.jobs.models import Job
dead = {"state": "dead_lettered", "result": None, "error_code": "worker-lost", "error_message": "it died"}
assert Job.objects.filter(id=%r).update(**dead) == 1
"""


def test_an_operator_corrects_a_dead_letter_and_replays_it(page: Page, embedded_stack: Any) -> None:
    accepted = embedded_stack.infer("wine", {"instances": [WINE]}, Prefer="respond-async")
    assert embedded_stack.result(accepted).status_code == 200
    job_id = accepted.json()["Id"]
    embedded_stack.manage("shell", "--no-imports", "-c", GIVE_UP % job_id)
    troubles = watch(page, embedded_stack)

    page.locator("#nav-sidebar-apps").get_by_text("Dead letters", exact=True).click()
    page.get_by_role("link", name=job_id[:8]).click()
    expect(page.get_by_text("it died").first).to_be_visible()
    field = page.get_by_label("Input")
    rows = json.loads(field.input_value())
    assert list(rows[0].values()) == WINE

    field.fill(json.dumps([rows[0] | {"alcohol": "a lot"}]))
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("Row 0, column 'alcohol': expected a number, got text.")).to_be_visible()

    field.fill(json.dumps([rows[0] | {"alcohol": 13.5}]))
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("The job is back in the queue.")).to_be_visible()
    expect(page.get_by_role("link", name=job_id[:8], exact=True)).to_have_count(0)

    page.get_by_role("link", name=f"Look at job {job_id[:8]}").click()
    expect(page.get_by_text("probability of class_0")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("13.5")).to_be_visible()
    expect(page.get_by_text("replayed")).to_be_visible()
    assert troubles == []


FOLLOW = """
job => {
    window.seen = [];
    window.source = new EventSource(`/api/jobs/${job}/events/`);
    window.source.onmessage = event => window.seen.push([event.lastEventId, JSON.parse(event.data).State]);
}
"""


def test_a_page_of_the_portal_follows_a_job_to_its_end_and_is_then_told_to_stay_away(
    page: Page, embedded_stack: Any
) -> None:
    troubles = watch(page, embedded_stack)
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if answer.url.endswith("/events/") else None)
    with stopped(embedded_stack):
        accepted = embedded_stack.infer("wine", {"instances": [WINE]}, Prefer="respond-async")
        page.evaluate(FOLLOW, accepted.json()["Id"])
        page.wait_for_function("window.seen.length === 1")
    # It comes again by itself, with the last event that it has seen, and then no more.
    page.wait_for_function("window.source.readyState === EventSource.CLOSED", timeout=30_000)
    seen = page.evaluate("window.seen")
    states = [state for _, state in seen]
    assert states in (["queued", "succeeded"], ["queued", "running", "succeeded"])
    assert [event for event, _ in seen] == [f"1-{state}" for state in states]
    assert statuses == [200, 204]
    assert troubles == []
