"""A person registers a webhook, sees its key once, tries it, and turns it off, in a real browser on the real system."""

import json
import re

from playwright.sync_api import Page, expect
from standardwebhooks import Webhook

from tests.browser.login import watch
from tests.integration.receiver import receiving
from tests.stack import Stack, wait_for


def test_a_person_registers_a_webhook_tries_it_and_turns_it_off(page: Page, embedded_stack: Stack) -> None:
    troubles = watch(page, embedded_stack)
    with receiving() as receiver:
        page.locator("#nav-sidebar-apps").get_by_text("Webhooks", exact=True).click()
        page.get_by_role("link", name=re.compile("Add")).first.click()
        page.get_by_label("Address").fill("http://169.254.169.254/")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("isn't a public address")).to_be_visible()
        page.get_by_label("Address").fill(receiver.url)
        page.get_by_label("inference.job.failed", exact=True).check()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("The webhook was registered.")).to_be_visible()
        secret = page.get_by_text(re.compile("^whsec_")).inner_text()
        page.reload()
        expect(page.get_by_text("Nothing was sent there yet.")).to_be_visible()
        expect(page.get_by_text(re.compile("whsec_"))).to_have_count(0)

        page.get_by_role("button", name="Send a test").click()
        expect(page.get_by_role("heading", name=re.compile("^Delivery [0-9a-f]{8}"))).to_be_visible()
        wait_for(lambda: receiver.calls, 30, embedded_stack.logs)
        (call,) = receiver.calls
        assert Webhook(secret).verify(call.body, call.headers) == json.loads(call.body)
        # The page comes up to date by itself.
        expect(page.get_by_role("cell", name="204")).to_be_visible(timeout=30_000)
        expect(page.get_by_role("button", name="Send again")).to_be_visible()

        page.locator("dd a[href*='/deliveries/endpoint/']").click()
        expect(page.get_by_role("cell", name="inference.webhook.test")).to_be_visible()
        page.get_by_role("button", name="Turn off").click()
        expect(page.get_by_text("The webhook is off.")).to_be_visible()
        page.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("The webhook was removed")).to_be_visible()
    assert troubles == []
