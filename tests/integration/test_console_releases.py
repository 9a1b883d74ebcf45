"""The page of a model: what it shows to whom, and the forms that release, roll back and retire."""

from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from inference_portal.accounts.models import Role, Team
from inference_portal.catalog import traffic
from inference_portal.catalog.models import ReleaseEvent
from tests.integration.http import session
from tests.integration.versions import add, spoil, versions
from workers.check_model import STEPS

pytestmark = pytest.mark.django_db
M = "/admin/models/m/"


@pytest.fixture
def m(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Iterator[Path]:
    with versions(monkeypatch, settings, tmp_path, "1", "2", "3") as folder:
        yield folder


@pytest.fixture
def operator(team: Team) -> Client:
    return session(team, role=Role.OPERATOR)


def act(browser: Client, path: str, **fields: Any) -> str:
    return unescape(browser.post(M + path, fields, follow=True).content.decode())


def split() -> dict[str, float]:
    return {part.version: part.weight for part in traffic.read().split("m")}


def test_an_operator_releases_rolls_back_and_retires_by_forms(m: Path, operator: Client) -> None:
    page = act(operator, "2/release/", weight="25", reason="new harvest <b>")
    assert split() == {"1": 75, "2": 25}
    assert "Version 2 released. Traffic now: version 1: 75 %, version 2: 25 %." in page
    assert "new harvest <b>" in page and "4 right" in page
    form = unescape(operator.get(f"{M}rollback/").content.decode())
    assert "version 1: 75 %, version 2: 25 %" in form and "version 1: 100 %" in form
    assert split() == {"1": 75, "2": 25}
    assert "Version 1 retired. Traffic now: version 2: 100 %." in act(operator, "1/retire/", reason="")
    assert split() == {"2": 100}
    page = act(operator, "3/release/", weight="100", reason="")
    assert "Version 3 rolled back. Traffic now: version 2: 100 %." in act(operator, "rollback/", reason="too slow")
    assert [event.reason for event in ReleaseEvent.objects.all()] == ["too slow", "", "", "new harvest <b>"]
    assert {event.who for event in ReleaseEvent.objects.all()} != {""}


def test_a_wrong_version_is_refused_on_the_page_with_each_value(m: Path, operator: Client) -> None:
    spoil(m / "2")
    page = act(operator, "2/release/", weight="100", reason="x")
    assert "Nothing was released" in page and page.count("<td>probability</td>") == 2
    assert split() == {"1": 100} and not ReleaseEvent.objects.exists()


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("2/release/", {"weight": "0"}, "greater than or equal to 1"),
        ("2/release/", {"weight": "x"}, "Enter a whole number"),
        ("2/release/", {"weight": "50", "reason": "x" * 1_001}, "at most 1000 characters"),
        ("1/release/", {"weight": "50"}, "No other version takes traffic now"),
        ("1/retire/", {}, "takes all the traffic"),
        ("9/release/", {"weight": "50"}, "has no version '9'"),
        ("9/retire/", {}, "has no version '9'"),
        ("rollback/", {}, "There is no release of m"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_told(m: Path, operator: Client, path: str, fields: Any, told: str) -> None:
    assert told in act(operator, path, **fields)
    assert split() == {"1": 100}


def test_the_page_shows_the_acts_to_operators_only_and_the_history_to_all(
    m: Path, operator: Client, team: Team
) -> None:
    act(operator, "2/release/", weight="50", reason="try it")
    for role, shown in ((Role.VIEWER, False), (Role.SUBMITTER, False), (Role.OPERATOR, True)):
        page = session(team, role=role).get(M).content.decode()
        assert ("Release…" in page, "Retire…" in page, "Roll back…" in page) == (shown,) * 3
        assert "try it" in page
        assert ("Predict" in page) is (role is not Role.VIEWER)
    for path in ("2/release/", "2/retire/", "rollback/"):
        assert session(team, role=Role.SUBMITTER).post(M + path, {"weight": "1"}).status_code == 403
    assert split() == {"1": 50, "2": 50}


def test_a_version_is_checked_step_by_step(m: Path, operator: Client) -> None:
    page = act(operator, "2/check/")
    assert "It can be served." in page and page.count("portal-text") == len(STEPS)
    spoil(m / "2")
    page = act(operator, "2/check/")
    assert "It can't be served." in page and "golden" in page and "Don't release it before you know why." in page
    assert "has no version '9'" in act(operator, "9/check/")
    assert operator.get(f"{M}2/check/").status_code == 405
    assert split() == {"1": 100}


def test_two_versions_are_compared_before_a_release(m: Path, operator: Client) -> None:
    add(m.parent, "2", columns=[{"name": "x"}, {"name": "y"}, {"name": "z"}])
    choice = operator.get(f"{M}2/compare/").content.decode()
    assert "?with=1" in choice and "?with=3" in choice and "?with=2" not in choice
    page = unescape(operator.get(f"{M}2/compare/", {"with": "1"}).content.decode())
    assert "column 'z': new\nsize: " in page and "Release 2…" in page
    assert "Choose a version" in operator.get(f"{M}2/compare/", {"with": "../x"}).content.decode()
    assert operator.get(f"{M}9/compare/")["Location"] == "/admin/models/"


def test_only_operators_check_and_compare(m: Path, team: Team) -> None:
    browser = session(team, role=Role.SUBMITTER)
    assert browser.post(f"{M}2/check/").status_code == 403
    assert browser.get(f"{M}2/compare/", {"with": "1"}).status_code == 403
    assert "Compare" not in browser.get(M).content.decode()


def test_what_is_wrong_with_the_traffic_is_on_both_pages(m: Path, operator: Client) -> None:
    act(operator, "2/release/", weight="50")
    add(m.parent, "2", columns=[{"name": "x"}, {"name": "y"}, {"name": "z"}])
    for path in (M, "/admin/models/"):
        page = unescape(operator.get(path).content.decode())
        assert "Version 2 takes no traffic: its model file isn't the one that was released." in page
    assert operator.get("/admin/models/none/")["Location"] == "/admin/models/"


def test_a_retired_version_is_not_offered_for_a_prediction(m: Path, operator: Client) -> None:
    act(operator, "2/release/", weight="100")
    act(operator, "1/retire/")
    page = operator.get("/admin/predict/").content.decode()
    assert "/admin/predict/m/2/" in page and "/admin/predict/m/1/" not in page
    assert operator.get("/admin/predict/m/1/")["Location"] == "/admin/predict/"
