"""An operator releases a version in a real browser, against the real system."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.login import watch
from tests.integration.versions import spoil
from tests.stack import Stack, running
from tests.unit.builders import OUTPUTS, train_tiny


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """The embedded system with versions 1, 2 and 3 of the model `m`; the samples of 3 expect something else."""
    for version in ("1", "2", "3"):
        manifest = train_tiny(tmp_path / "store", "m", OUTPUTS["two"], version=version)
    spoil(manifest.parent)
    with running(Stack(tmp_path / "run", MODEL_STORE=str(tmp_path / "store"))) as started:
        yield started


def test_an_operator_checks_compares_releases_and_goes_back(page: Page, stack: Stack) -> None:
    troubles = watch(page, stack)
    page.locator("#nav-sidebar-apps").get_by_text("Models", exact=True).click()
    page.get_by_role("link", name="m", exact=True).first.click()
    expect(page.get_by_text("Nobody has released anything yet")).to_be_visible()

    def act(version: str, name: str) -> None:
        cell = page.get_by_role("cell", name=re.compile(f"^{version} [0-9a-f]{{12}}$"))
        row = page.get_by_role("row").filter(has=cell)
        row.get_by_role("link", name=name).or_(row.get_by_role("button", name=name)).click()

    act("3", "Check")
    expect(page.get_by_text("It can't be served.")).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="Back").click()
    act("3", "Release…")
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was released", timeout=30_000)
    page.get_by_role("link", name="Back").click()

    act("2", "Compare")
    page.get_by_role("link", name="version 1").click()
    expect(page.get_by_label("Differences")).to_contain_text("size:", timeout=30_000)
    page.get_by_role("link", name="Release 2…").click()
    page.get_by_label("Weight").fill("25")
    page.get_by_label("Reason").fill("a new harvest")
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_text("Version 2 released. Traffic now: version 1: 75 %, version 2: 25 %.")).to_be_visible(
        timeout=30_000
    )
    expect(page.get_by_text("a new harvest")).to_be_visible()

    page.get_by_role("link", name="Roll back…").click()
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("Version 2 rolled back. Traffic now: version 1: 100 %.")).to_be_visible()
    assert troubles == []
