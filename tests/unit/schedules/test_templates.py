"""Templates in addresses: names, nothing else."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_portal.batches.schedules.templates import NAMES, WrongTemplate, check, render, values

DUE = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
MEANT = values(DUE, datetime(2026, 1, 30, 23, 30, tzinfo=UTC), ZoneInfo("Europe/Berlin"))


def test_every_name_has_a_value() -> None:
    assert MEANT == {
        "day": "2026-02-01",
        "yesterday": "2026-01-31",
        "year": "2026",
        "month": "02",
        "hour": "00",
        "due": "20260131T233000Z",
        "since_last": "20260130T233000Z",
    }
    assert set(MEANT) == set(NAMES)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("file:///in/{{ day }}.csv", "file:///in/2026-02-01.csv"),
        ("s3://b/{{year}}/{{  month  }}/", "s3://b/2026/02/"),
        ("{{ since_last }}-{{ due }}", "20260130T233000Z-20260131T233000Z"),
        ("plain, with { and }", "plain, with { and }"),
        ("", ""),
    ],
)
def test_names_are_replaced(text: str, rendered: str) -> None:
    assert render(text, MEANT) == rendered


@pytest.mark.parametrize(
    "text",
    ["{{ dya }}", "{{ }}", "{{}}", "{{ day", "day }}", "{{ day }", "{{{{ day }}", "{{ day|upper }}", "{{ day.year }}",
     "{{ {{ day }} }}", "{{ DAY }}", "{{ da\0y }}"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(WrongTemplate):
        check(text)
    with pytest.raises(WrongTemplate):
        render(text, MEANT)


@given(st.text("{} day", max_size=30))
def test_what_was_checked_is_rendered_without_braces_in_pairs(text: str) -> None:
    try:
        check(text)
    except WrongTemplate:
        return
    rendered = render(text, MEANT)
    assert "{{" not in rendered
    assert "}}" not in rendered
