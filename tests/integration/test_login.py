"""Guessing: names are locked after failed logins, the same for everybody; wrong keys and forged forms get nothing."""

import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from axes.models import AccessAttempt, AccessLog
from cachetools import TTLCache
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core.management import CommandError, call_command
from django.db import connection
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, get_resolver
from django.utils import timezone

from inference_portal.accounts import callers
from inference_portal.accounts.callers import caller_from_key
from inference_portal.accounts.client_address import client_address
from inference_portal.accounts.models import ApiKey, Role, Team, User
from inference_portal.console import login
from inference_portal.jobs.models import Job
from tests.integration import rows

pytestmark = pytest.mark.django_db
PAGE = "/admin/login/"
PASSWORD = "a-password-for-tests"
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def ann(team: Team) -> User:
    """A person who can log in."""
    return User.objects.create_user("ann", password=PASSWORD, team=team)


def enter(name: str = "ann", password: str = "wrong", address: str = HOME, **more: Any) -> Any:
    """Answer of the login page to a name and a password, from a new browser."""
    return Client().post(PAGE, {"username": name, "password": password}, REMOTE_ADDR=address, **more)


def lock(name: str = "ann", address: str = HOME, **more: Any) -> Any:
    """Guess as often as one may; the last answer."""
    for _ in range(4):
        assert enter(name, address=address, **more).status_code == 200
    return enter(name, address=address, **more)


def text(answer: Any) -> str:
    return str(answer.content.decode())


# The lock


def test_after_five_failures_the_right_password_is_refused_too_and_the_page_says_what_to_do(ann: User) -> None:
    assert "Username or password is wrong." in text(enter())
    for _ in range(3):
        assert enter().status_code == 200
    for answer in (enter(), enter(), enter(password=PASSWORD)):
        assert answer.status_code == 429
        assert 890 < int(answer["Retry-After"]) <= 900
        page = text(answer)
        assert "Try again in 15 minutes" in page and "An operator can unlock it sooner." in page
        assert 'name="password"' in page and "Username or password is wrong." not in page
        assert "_auth_user_id" not in answer.client.session


def test_nobody_can_lock_others_out_from_elsewhere(ann: User, team: Team) -> None:
    User.objects.create_user("bob", password=PASSWORD, team=team)
    assert lock(address=ELSEWHERE).status_code == 429
    assert enter(password=PASSWORD, address=HOME).status_code == 302
    assert enter("bob", PASSWORD, ELSEWHERE).status_code == 302
    assert enter(password=PASSWORD, address=ELSEWHERE).status_code == 429


def test_who_gets_no_turn_is_told_soon_and_nothing_is_counted(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "TURN_SECONDS", 0.05)
    with ExitStack() as others:
        for turn in login._turns:
            others.enter_context(turn)
        for _ in range(6):
            assert login.BUSY in text(enter(password=PASSWORD))
    assert enter(password=PASSWORD).status_code == 302


def test_a_lock_leaves_open_sessions_and_keys_alone(ann: User, team: Team) -> None:
    browser = enter(password=PASSWORD).client
    _, key = ApiKey.objects.create_key(name="k", team=team)
    lock()
    assert browser.get("/admin/", REMOTE_ADDR=HOME).status_code == 200
    assert Client().get("/api/jobs/", headers={"Authorization": f"Bearer {key}"}, REMOTE_ADDR=HOME).status_code == 200


def test_a_login_forgets_the_failures_before_it(ann: User) -> None:
    for _ in range(3):
        for _ in range(4):
            assert enter().status_code == 200
        assert enter(password=PASSWORD).status_code == 302
    assert not AccessAttempt.objects.exists()


def test_somebody_elses_login_forgets_no_failures(ann: User, team: Team) -> None:
    User.objects.create_user("eve", password=PASSWORD, team=team)
    for _ in range(4):
        assert enter().status_code == 200
    assert enter("eve", PASSWORD).status_code == 302
    assert enter().status_code == 429


def test_the_lock_ends_by_itself_and_guessing_on_does_not_prolong_it(ann: User) -> None:
    lock()
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=14, seconds=30))
    before = list(AccessAttempt.objects.values())
    answer = enter(password=PASSWORD)
    assert answer.status_code == 429 and 0 < int(answer["Retry-After"]) <= 30
    assert "Try again in a minute" in text(answer)
    assert list(AccessAttempt.objects.values()) == before
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=15, seconds=1))
    assert enter(password=PASSWORD).status_code == 302
    assert not AccessAttempt.objects.exists()


def test_another_browser_or_another_spelling_is_no_new_chance(ann: User) -> None:
    for name, agent in (("ann", "one"), (" ann ", "two"), ("ａｎｎ", "three"), ("ann", "four")):
        assert enter(name, headers={"User-Agent": agent}).status_code == 200
    assert enter(headers={"User-Agent": "five"}).status_code == 429
    assert enter("ann\u00a0", PASSWORD, headers={"User-Agent": "six"}).status_code == 429


def test_names_that_nobody_has_are_answered_as_those_that_somebody_has(ann: User, team: Team) -> None:
    User.objects.create_user("off", password=PASSWORD, team=team, is_active=False)
    User.objects.create_user("not", password=PASSWORD)
    pages: dict[int, set[str]] = {}
    for name in ("ann", "off", "not", "who"):
        for attempt in range(7):
            answer = enter(name)
            page = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", text(answer)).replace(f'"{name}"', '"NAME"')
            pages.setdefault(attempt, set()).add(f"{answer.status_code} {page}")
    assert [len(same) for same in pages.values()] == [1] * 7


def test_a_name_that_nobody_has_costs_as_much_time(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many hashes are computed, which is where the time goes."""
    done: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(self: Any, password: str, salt: str) -> Any:
        done.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    for name in ("ann", "who"):
        done.clear()
        enter(name)
        assert done == ["wrong"], name
        lock(name, ELSEWHERE)
        done.clear()
        enter(name, address=ELSEWHERE)
        assert done == [], name


@pytest.mark.django_db(transaction=True)
def test_of_many_guesses_at_once_only_five_are_checked(
    settings: Any, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow this machine is.
    monkeypatch.setattr(login, "TURN_SECONDS", 120.0)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    User.objects.create_user("ann", password=PASSWORD, team=team)
    answers = rows.in_threads(*[lambda: enter().status_code] * 24)
    assert (answers.count(200), answers.count(429)) == (4, 20)
    assert AccessAttempt.objects.get().failures_since_start == 5


def test_what_was_typed_is_in_no_log_and_no_password_in_a_row(ann: User, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(6):
        enter("my-secret-in-the-wrong-field", "hunter2-hunter2")
    assert HOME in caplog.text, "an operator can't see where guesses come from"
    assert "my-secret" not in caplog.text and "hunter2" not in caplog.text
    (row,) = AccessAttempt.objects.values()
    assert "hunter2" not in repr(row) and "my-secret" not in row["post_data"]


def test_a_login_leaves_no_row_behind(ann: User) -> None:
    browser = enter(password=PASSWORD).client
    browser.post("/admin/logout/", REMOTE_ADDR=HOME)
    assert not AccessAttempt.objects.exists() and not AccessLog.objects.exists()


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {}),
        ({"username": "", "password": ""}, {}),
        ({"username": "a\0b", "password": "x"}, {}),
        ({"username": "a" * 10_000, "password": "x"}, {}),
        ({"username": "a" * 150, "password": "x" * 100_000}, {}),
        ({"username": "ann", "password": "a\0b"}, {}),
        ({"username": "😀", "password": "😀"}, {"User-Agent": "é" * 9000, "Accept": "ü" * 9000}),
        ({"username": "ann", "password": "x", "next": "\0", "q": "y" * 5000}, {"X-Requested-With": "XMLHttpRequest"}),
        ({"username": ["ann", "bob"], "password": ["x", "y"]}, {"X-Forwarded-For": ",,;nonsense, [::1]:80"}),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_odd_forms_are_no_errors_of_ours(
    ann: User, fields: dict[str, Any], headers: dict[str, str], settings: Any
) -> None:
    settings.TRUSTED_PROXIES = [HOME]
    for _ in range(6):
        answer = Client().post(f"{PAGE}?next=%00&{'q=1&' * 500}", fields, REMOTE_ADDR=HOME, headers=headers)
        assert answer.status_code in (200, 429)
        assert "Access-Control-Allow-Origin" not in answer


# Unlocking


def access(*arguments: str) -> str:
    out = io.StringIO()
    call_command("access", *arguments, stdout=out)
    return out.getvalue()


def test_an_operator_unlocks_a_name_everywhere_and_no_other(ann: User) -> None:
    for address in (HOME, ELSEWHERE):
        lock(address=address)
    lock("bob")
    with pytest.raises(CommandError, match="no failed logins as Ann"):
        access("unlock", "Ann")
    with pytest.raises(CommandError, match="no failed logins"):
        access("unlock", "")
    assert "ann may log in again" in access("unlock", "ann")
    for address in (HOME, ELSEWHERE):
        assert enter(password=PASSWORD, address=address).status_code == 302
    assert enter("bob").status_code == 429
    with pytest.raises(CommandError, match="no failed logins as ann"):
        access("unlock", "ann")


# Whose address counts


def request(remote: str | None, forwarded: str | None) -> HttpRequest:
    made = RequestFactory().get("/")
    made.META.pop("REMOTE_ADDR")
    made.META |= {} if remote is None else {"REMOTE_ADDR": remote}
    made.META |= {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    return made


@pytest.mark.parametrize(
    ("trusted", "remote", "forwarded", "expected"),
    [
        # By default nothing that a client can write is believed.
        ([], "192.0.2.1", None, "192.0.2.1"),
        ([], "192.0.2.1", "203.0.113.9", "192.0.2.1"),
        # One proxy: what it has added, at the end.
        (["10.0.0.0/8"], "10.0.0.7", "203.0.113.9", "203.0.113.9"),
        (["10.0.0.0/8"], "10.0.0.7", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        (["10.0.0.0/8"], "10.0.0.7", "10.0.0.9,203.0.113.9", "203.0.113.9"),
        # Two of them, and one that isn't known.
        (["10.0.0.0/8"], "10.0.0.7", "1.1.1.1, 203.0.113.9, 10.0.0.8", "203.0.113.9"),
        (["10.0.0.7"], "10.0.0.7", "203.0.113.9, 10.0.0.8", "10.0.0.8"),
        # Who comes round the proxy says nothing for himself.
        (["10.0.0.0/8"], "192.0.2.1", "203.0.113.9", "192.0.2.1"),
        # A proxy that is itself the client, or says nothing that can be read.
        (["10.0.0.0/8"], "10.0.0.7", None, "10.0.0.7"),
        (["10.0.0.0/8"], "10.0.0.7", "unknown", "10.0.0.7"),
        (["10.0.0.0/8"], "10.0.0.7", "203.0.113.9, unknown", "10.0.0.7"),
        (["10.0.0.0/8"], "10.0.0.7", "10.0.0.8", "10.0.0.8"),
        # One network of IPv6 is one client, and IPv4 in its clothes is IPv4.
        ([], "2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::"),
        ([], "2001:db8:1:2:ffff::1", None, "2001:db8:1:2::"),
        ([], "::ffff:192.0.2.1", None, "192.0.2.1"),
        (["10.0.0.7", "fd00::/8"], "::ffff:10.0.0.7", "2001:db8:1:2::5, fd00::1", "2001:db8:1:2::"),
        ([], "fe80::1%eth0", None, "fe80::"),
        # Over a socket in the file system.
        ([], None, None, "::"),
        ([], "", "203.0.113.9", "::"),
    ],
)
def test_the_clients_address_is_what_can_be_believed(
    settings: Any, trusted: list[str], remote: str | None, forwarded: str | None, expected: str
) -> None:
    settings.TRUSTED_PROXIES = trusted
    assert client_address(request(remote, forwarded)) == expected


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"]])
def test_a_forged_header_is_no_new_chance(ann: User, settings: Any, trusted: list[str]) -> None:
    settings.TRUSTED_PROXIES = trusted
    proxy = "10.0.0.7"
    for number in range(4):
        assert enter(address=proxy, headers={"X-Forwarded-For": f"1.1.1.{number}, {HOME}"}).status_code == 200
    assert enter(address=proxy, headers={"X-Forwarded-For": f"9.9.9.9, {HOME}"}).status_code == 429
    other = enter(password=PASSWORD, address=proxy, headers={"X-Forwarded-For": ELSEWHERE})
    assert other.status_code == (302 if trusted else 429)


def test_over_a_socket_in_the_file_system_all_are_one_client(ann: User) -> None:
    assert lock(address="").status_code == 429


# Keys


@pytest.fixture
def key(team: Team) -> Iterator[str]:
    """A key that works, and empty caches."""
    callers._known.clear()
    callers._wrong.clear()
    yield ApiKey.objects.create_key(name="k", team=team)[1]


def look_ups(key: str, times: int) -> int:
    with CaptureQueriesContext(connection) as queries:
        for _ in range(times):
            assert caller_from_key(key) is None
    assert all(query["sql"].startswith("SELECT") for query in queries), "a wrong key writes"
    return len(queries)


def test_a_wrong_key_costs_one_look_up_at_most_and_no_write(key: str) -> None:
    prefix = key.partition(".")[0]
    for nonsense in ("", "x", prefix, f"{prefix}.", key + "x", key[:-1], f" {key}", f"{key}\n", "é" * 41, "x" * 10**6):
        assert look_ups(nonsense, 3) == 0, nonsense[:50]
    assert look_ups(f"{'x' * 8}.{'y' * 32}", 50) == 1
    assert look_ups(f"{prefix}.{'y' * 32}", 50) == 1
    assert ApiKey.objects.get().last_used_at is None


def test_a_dead_key_that_goes_on_asking_costs_one_look_up(key: str) -> None:
    ApiKey.objects.update(revoked=True)
    assert look_ups(key, 50) == 1


def test_a_flood_of_wrong_keys_drives_no_right_one_out(key: str) -> None:
    assert caller_from_key(key) is not None
    for number in range(callers._wrong.maxsize + 1):
        callers._wrong[number.to_bytes(32)] = True
    with CaptureQueriesContext(connection) as queries:
        assert caller_from_key(key) is not None
    assert len(queries) == 0
    assert len(callers._wrong) == callers._wrong.maxsize


def test_a_cached_key_ends_at_its_expiry_and_not_later(team: Team) -> None:
    end = timezone.now() + timedelta(seconds=1)
    _, key = ApiKey.objects.create_key(name="short", team=team, expiry_date=end)
    assert caller_from_key(key) is not None
    while timezone.now() < end:
        time.sleep(0.01)
    assert caller_from_key(key) is None
    assert callers._known, "the cache had forgotten it anyway, so nothing was shown"


@pytest.mark.parametrize("change", [{"revoked": True}, {"role": Role.VIEWER}, {"expiry_date": timezone.now()}])
def test_a_changed_key_counts_after_the_caches_time(
    key: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_known", TTLCache(maxsize=10, ttl=0.5))
    first = caller_from_key(key)
    assert first is not None and first.role is Role.SUBMITTER
    ApiKey.objects.update(**change)
    assert caller_from_key(key) == first
    time.sleep(0.6)
    now = caller_from_key(key)
    assert now is None if "role" not in change else (now is not None and now.role is Role.VIEWER)


def test_only_a_hash_of_a_key_is_stored(key: str) -> None:
    stored = repr(ApiKey.objects.values().get())
    prefix, _, secret = key.partition(".")
    assert prefix in stored and secret not in stored and "sha512$$" in stored


def test_a_persons_new_role_or_team_counts_at_once(ann: User, team: Team) -> None:
    browser = enter(password=PASSWORD).client
    cancel = f"/api/jobs/{rows.make_job(team).id}/cancel/"
    assert browser.post(cancel).status_code == 403
    User.objects.update(team=rows.make_team("other"))
    assert browser.post(cancel).status_code == 404
    User.objects.update(team=team, role=Role.SUBMITTER)
    assert browser.post(cancel).status_code == 202
    User.objects.update(role=Role.OPERATOR)
    assert browser.get("/api/dead-letters/").status_code == 200
    User.objects.update(team=None)
    assert browser.get("/api/jobs/").status_code == 403


def test_a_new_password_ends_the_sessions_under_the_old_one(ann: User) -> None:
    browser = enter(password=PASSWORD).client
    assert browser.get("/api/jobs/").status_code == 200
    ann.set_password("another-password-4-tests")
    ann.save()
    assert browser.get("/api/jobs/").status_code == 401


# Forms from elsewhere

OPEN = ("v2", "v2/health/live", "v2/health/ready", "healthz", "readyz")
PAGES = ("", "problems/", "problems/<problem:slug>")
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
ROUTES = [str(p.pattern) for p in get_resolver().url_patterns if isinstance(p, URLPattern)]
GUARDED = [route for route in ROUTES if route not in OPEN + PAGES]


def filled(route: str, job: Job) -> str:
    values = {"model": "wine", "version": "1", "job_id": str(job.id), "message_id": "1"}
    other = dict.fromkeys(("batch_id", "schedule_id", "delivery_id", "webhook_id"), str(uuid4()))
    return "/" + re.sub(r"<\w+:(\w+)>", lambda part: (values | other)[part[1]], route)


@pytest.mark.parametrize("route", GUARDED)
def test_a_session_without_the_csrf_token_changes_nothing_on_any_route(ann: User, team: Team, route: str) -> None:
    User.objects.update(role=Role.OPERATOR)
    job = rows.make_job(team)
    before = rows.whole(job.id)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ann)
    body = json.dumps({"model": "wine", "rows": [[0.5] * 13], "instances": [[0.5] * 13], "reason": "none"})
    token, other = "a" * 32, "b" * 32
    forged: list[tuple[str, dict[str, str]]] = [
        ("", {}),
        ("", {"X-CSRFToken": token}),
        (token, {}),
        (token, {"X-CSRFToken": other}),
        (token, {"X-CSRFToken": token, "Origin": "https://evil.example"}),
    ]
    for cookie, headers in forged:
        browser.cookies["csrftoken"] = cookie
        for method in UNSAFE:
            answer = browser.generic(method, filled(route, job), body, "application/json", headers=headers)
            assert answer.status_code == 403, f"{method} {route} {cookie} {headers}"
            assert answer["Content-Type"] == "application/problem+json"
            assert answer.json()["type"] == "/problems/forbidden" and "CSRF" in answer.json()["detail"]
    assert Job.objects.count() == 1 and rows.whole(job.id) == before


def test_a_session_with_the_csrf_token_writes(ann: User) -> None:
    User.objects.update(role=Role.SUBMITTER)
    browser = Client(enforce_csrf_checks=True)
    browser.get(PAGE)
    form = {"username": "ann", "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"].value}
    assert browser.post(PAGE, form).status_code == 302
    session, token = browser.cookies["sessionid"], browser.cookies["csrftoken"]
    assert (session["httponly"], session["samesite"], token["samesite"]) == (True, "Lax", "Lax")
    headers = {"X-CSRFToken": token.value, "Prefer": "respond-async", "X-Inference-Id": str(uuid4())}
    body = json.dumps({"instances": [[0.5] * 13]})
    answer = browser.post("/v2/models/wine/infer", body, "application/json", headers=headers)
    assert answer.status_code == 202, answer.content
    assert Job.objects.get().submitted_by == "ann"


def test_the_login_page_itself_takes_no_forged_form(ann: User) -> None:
    answer = Client(enforce_csrf_checks=True).post(PAGE, {"username": "ann", "password": PASSWORD})
    assert answer.status_code == 403
    assert not AccessAttempt.objects.exists()
