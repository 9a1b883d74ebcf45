"""How each test gets in."""

from typing import Any

from playwright.sync_api import Page, expect


def watch(page: Page, stack: Any) -> list[str]:
    """Log in. Returns what goes wrong on the pages from now on: errors of scripts, and requests to elsewhere."""
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    own = (stack.url, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else troubles.append(request.url))
    page.goto(stack.url)
    page.get_by_label("Username").fill(stack.user)
    page.get_by_label("Password").fill(stack.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Last jobs")).to_be_visible()
    return troubles
