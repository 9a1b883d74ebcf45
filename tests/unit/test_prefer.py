"""The Prefer header (RFC 7240)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_portal.api.prefer import Preference, parse

ASYNC = Preference("respond-async")
PROXY = Preference("respond-async-proxy")
CONTAINER = Preference("respond-async-container")
NOTHING = Preference()


def waiting(seconds: float) -> Preference:
    return Preference("", seconds)


def both(seconds: float) -> Preference:
    return Preference("respond-async", seconds)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, NOTHING),
        ("", NOTHING),
        ("respond-async", ASYNC),
        ("Respond-Async", ASYNC),
        ("  respond-async  ", ASYNC),
        ("respond-async=", ASYNC),
        ('respond-async=""', ASYNC),
        ("respond-async; some=parameter; other", ASYNC),
        ("wait=7", waiting(7)),
        ("WAIT = 7", waiting(7)),
        ('wait="7"', waiting(7)),
        ("wait=0", waiting(0)),
        ("wait=007", waiting(7)),
        ("wait=7; of=ours", waiting(7)),
        ("respond-async, wait=7", both(7)),
        ("wait=7,respond-async", both(7)),
        ("wait=7, wait=9, respond-async, respond-async", both(7)),
        ("wait=999999", waiting(300)),
        ("wait=" + "9" * 400, waiting(300)),
        (
            "return=minimal, respond-async, handling=lenient",
            Preference("respond-async", others="return=minimal, handling=lenient"),
        ),
        ('foo="a, wait=9, b", wait=7', Preference("", 7, 'foo="a, wait=9, b"')),
        ('foo; bar="a, respond-async, b"', Preference(others='foo; bar="a, respond-async, b"')),
        ('foo; bar="a\\", b", respond-async', Preference("respond-async", others='foo; bar="a\\", b"')),
        ("x" * 501, NOTHING),
        ('x="\xe4"', NOTHING),
        (", ,respond-async,,", ASYNC),
        ("@@@, respond-async", ASYNC),
        ("respond async", NOTHING),
        ("respond-async wait=7", NOTHING),
        ("respond-asynchronously", Preference(others="respond-asynchronously")),
        ('foo="open, respond-async', NOTHING),
        ("wait", NOTHING),
        ("wait=", NOTHING),
        ("wait=-1", NOTHING),
        ("wait=1.5", NOTHING),
        ("wait=1e3", NOTHING),
        ("wait=soon", NOTHING),
        ("wait=٣", NOTHING),
        ("wait=9999999999", waiting(300)),
        ("respond-async, respond-async-proxy", ASYNC),
        ("respond-async-proxy, respond-async", PROXY),
        ("Respond-Async-Proxy", PROXY),
        ("wait=3, respond-async-proxy", PROXY),
        ("respond-async-proxy; a=b, wait=3", PROXY),
        ("x, respond-async-container=y", Preference("respond-async-container", others="x")),
        ("respond-async-container, respond-async-proxy", CONTAINER),
    ],
)
def test_ours_is_read_and_what_others_may_know_is_kept(header: str | None, expected: Preference) -> None:
    assert parse(header, longest=300) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ""),
        ("respond-async, wait=3", ""),
        ("respond-async-proxy", "respond-async"),
        ("respond-async-container, handling=lenient", "respond-async, handling=lenient"),
        ("return=minimal, respond-async", "return=minimal"),
    ],
)
def test_a_container_goes_on_by_itself_when_nobody_here_waits(header: str, expected: str) -> None:
    assert parse(header, longest=300).for_container == expected


@pytest.mark.parametrize(
    ("preference", "applied"),
    [
        (NOTHING, ""),
        (ASYNC, "respond-async"),
        (waiting(0), "wait=0"),
        (waiting(0.5), "wait=0.5"),
        (both(7), "respond-async, wait=7"),
        (both(7).at_once(), "respond-async"),
    ],
)
def test_what_was_applied_is_said_in_its_words(preference: Preference, applied: str) -> None:
    assert preference.applied == applied


@pytest.mark.parametrize(
    "header",
    [
        "a" * 100_000 + "@",
        "a" + " " * 100_000 + "b",
        "a=" + " " * 100_000 + "@",
        "a;" + " " * 100_000 + "x",
        "," * 100_000,
        '"' * 100_000,
        'a="' + '\\"' * 50_000,
        '"\\' * 50_000,
        'a="b",' * 16_000 + '"',
        " ;" * 50_000,
        "=" * 100_000,
    ],
    ids=lambda header: header[:6],
)
def test_a_hostile_header_is_read_quickly(header: str) -> None:
    started = time.process_time()
    assert parse(header, longest=300) == NOTHING
    assert time.process_time() - started < 0.1


@given(st.text(alphabet=st.sampled_from(' ,;="\\\tawit3@') | st.characters(codec="latin-1"), max_size=60))
def test_any_header_is_read(header: str) -> None:
    parse(header, longest=300)
    assert parse(f"respond-async, {header}", longest=300).mode == "respond-async"
