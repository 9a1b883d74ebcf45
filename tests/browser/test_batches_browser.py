"""A person runs a file, and has a schedule run one, in a real browser against the real system."""

import csv
import io
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.acceptance import batches
from tests.browser.login import watch
from tests.stack import Stack, running

CHUNK_ROWS, CHUNKS = 50, 20
WINDOW = {"width": 1280, "height": 720}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The embedded system with the model `m`, whose step takes its time when told so."""
    folder = tmp_path_factory.mktemp("batches-browser")
    with running(Stack(folder / "run", **batches.variables(folder))) as started:
        yield started


def seen(page: Page, name: str) -> None:
    """Keep a picture of the page where SCREENSHOTS says so."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")
        page.screenshot(path=Path(folder) / f"{name}-whole.png", full_page=True)


def menu(page: Page, name: str) -> None:
    """Follow a link of the menu: by its text, for the name of a link includes its icon's."""
    page.locator("#nav-sidebar-apps").get_by_text(name, exact=True).click()


def as_csv(values: batches.Rows) -> bytes:
    """Return the rows as CSV, each with its number."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "a", "b", "c"])
    for number, (a, b, c) in enumerate(values.tolist()):
        writer.writerow([number, repr(a), "" if np.isnan(b) else repr(b), repr(c)])
    return text.getvalue().encode()


def downloaded(page: Page, name: re.Pattern[str]) -> list[dict[str, str]]:
    """Click on a file's link, and return the lines of what comes."""
    with page.expect_download() as download:
        page.get_by_role("link", name=name).click()
    with Path(download.value.path()).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_person_runs_a_file_watches_it_and_downloads_the_output(page: Page, stack: Stack, tmp_path: Path) -> None:
    page.set_viewport_size(WINDOW)
    troubles = watch(page, stack)
    values = batches.rows(CHUNK_ROWS * CHUNKS)
    file = tmp_path / "customers.csv"
    wrong = values.copy()
    wrong[7, 2] = 1_000
    file.write_bytes(as_csv(wrong))
    menu(page, "Batches")
    seen(page, "batches-empty")
    page.get_by_role("link", name="New batch").first.click()
    seen(page, "batch-form")
    page.get_by_label("Model").select_option("m")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Upload a file, or name a data set.")).to_be_visible()
    seen(page, "batch-form-wrong")
    page.get_by_label("Upload a file").set_input_files(file)
    page.get_by_label("Format of the output").select_option("csv")
    page.get_by_label("Columns to keep").fill("id")
    page.get_by_label("Rows a chunk").fill(str(CHUNK_ROWS))
    with batches.dawdling(stack):
        page.get_by_role("button", name="Run").click()
        # The page comes up to date by itself.
        bar = page.get_by_role("progressbar")
        expect(bar).to_have_attribute("aria-valuenow", re.compile("^[1-9][05]$"), timeout=30_000)
        seen(page, "batch-running")
        first = int(bar.get_attribute("aria-valuenow") or 0)
        expect(bar).to_have_attribute("aria-valuenow", re.compile(f"^(?!{first}$)"))
    expect(page.get_by_text("partial", exact=True).first).to_be_visible(timeout=30_000)
    expect(page.locator("#batch")).not_to_have_attribute("data-open", re.compile(".*"))
    expect(page.get_by_role("button", name="Cancel batch")).to_have_count(0)
    seen(page, "batch-final")

    output = downloaded(page, re.compile(r"^m-1-[0-9a-f]{8}\.csv$"))
    expected = batches.direct(stack, values)
    assert [int(row["id"]) for row in output] == list(range(len(values)))
    assert output[7]["probability"] == ""
    got = np.array([row["probability"] or "nan" for row in output], np.float32)
    assert np.array_equal(np.delete(got, 7), np.delete(expected, 7))
    (error,) = downloaded(page, re.compile("-errors.csv$"))
    assert (error["row"], error["column"]) == ("7", "c")
    menu(page, "Batches")
    expect(page.get_by_role("row")).to_have_count(2)
    seen(page, "batches")
    assert troubles == []


def test_a_schedule_made_in_the_admin_runs_a_file_by_itself(page: Page, stack: Stack) -> None:
    page.set_viewport_size(WINDOW)
    troubles = watch(page, stack)
    values = batches.rows(CHUNK_ROWS)
    folder = Path(stack.environment["DATA_FOLDERS"])
    at = datetime.now(UTC) + timedelta(seconds=12)
    data = folder / f"{at:%Y-%m-%d}.csv"
    data.write_bytes(as_csv(values))

    menu(page, "Schedules")
    seen(page, "schedules-empty")
    page.get_by_role("link", name=re.compile("Add|New schedule")).first.click()
    seen(page, "schedule-form")
    page.get_by_label("Name").fill("nightly")
    page.get_by_label("Cron line").fill("0 0 30 2 *")
    page.get_by_label("Address of the data set").fill(f"file://{folder}/{{{{ day }}}}.csv")
    page.get_by_label("Format of the output").select_option("csv")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("It is never due")).to_be_visible()
    seen(page, "schedule-form-wrong")
    page.get_by_label("Cron line").fill("")
    page.get_by_label("Or once, at").fill(at.isoformat())
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The schedule 'nightly' was made.")).to_be_visible()
    expect(page.get_by_text("It has had no run yet.")).to_be_visible()
    seen(page, "schedule-new")

    # Nobody does anything: the page shows the run by itself.
    link = page.get_by_role("table").get_by_role("link")
    expect(link).to_be_visible(timeout=40_000)
    expect(page.get_by_role("table").get_by_text("succeeded")).to_be_visible(timeout=30_000)
    seen(page, "schedule-ran")
    link.click()
    expect(page.get_by_role("link", name="Its schedule")).to_be_visible()
    output = downloaded(page, re.compile(r"^m-1-[0-9a-f]{8}\.csv$"))
    got = np.array([row["probability"] for row in output], np.float32)
    assert np.array_equal(got, batches.direct(stack, values))
    seen(page, "batch-of-schedule")
    menu(page, "Schedules")
    expect(page.get_by_role("row").filter(has_text="nightly").get_by_role("cell", name="m", exact=True)).to_be_visible()
    seen(page, "schedules")
    assert troubles == []
