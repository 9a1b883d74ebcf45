"""What a client likes best, by its Accept header."""

import pytest

from inference_portal.api.accept import preferred

KINDS = ("text/csv", "application/json", "application/x-npy")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("*/*", "text/csv"),
        ("application/*", "application/json"),
        ("text/html, */*;q=0.1", "text/csv"),
        ("*/*, application/x-npy", "application/x-npy"),
        ("application/x-npy, application/json", "application/x-npy"),
        ("application/x-npy;q=0.5, application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        ("*/*, text/csv;q=0", "application/json"),
        ("text/*;q=0, */*", "application/json"),
        ("text/*;q=0, text/csv;q=0.1", "text/csv"),
        ("text/csv;q=0.1, application/*;q=0.2", "application/json"),
        ("application/*, text/csv;q=0.9", "application/json"),
        ("text/csv;q=nonsense", "text/csv"),
        ("text/csv;q=0, application/json;q=0.0, */*;q=0.000", None),
        ("text/html", None),
        ("", None),
        (",,", None),
        ("nonsense", None),
        ("\xff/\xff;=;;q", None),
    ],
)
def test_the_most_specific_word_on_a_type_counts(header: str, expected: str | None) -> None:
    assert preferred(header, KINDS) == expected
