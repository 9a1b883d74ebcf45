"""The main path in a real browser, against the real system."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests import services

# Quiet and offline: the console loads nothing from elsewhere, and neither shall the browser.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def page() -> Iterator[Page]:
    """A browser's page. Without a browser the test is skipped, but never where it is meant to run."""
    path = services.browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser.new_page()
        finally:
            browser.close()


def test_a_person_predicts_and_finds_the_job_again(page: Page, embedded_stack: Any) -> None:
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    own = (embedded_stack.url, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else troubles.append(request.url))

    page.goto(embedded_stack.url)
    page.get_by_label("Username").fill(embedded_stack.user)
    page.get_by_label("Password").fill(embedded_stack.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Last jobs")).to_be_visible()

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
