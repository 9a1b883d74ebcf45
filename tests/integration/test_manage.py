"""The command line: access, sweep, and the checks that find wrong settings before anything runs."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.http import HttpRequest
from django.utils import timezone

from inference_portal.accounts.callers import caller_from_key
from inference_portal.accounts.models import ApiKey, Role, Team, User
from inference_portal.deliveries import letters
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import State
from tests.integration.rows import make_running, make_sent
from tests.stack import ROOT

pytestmark = pytest.mark.django_db
PASSWORD = "long-enough-4-a-test"


def access(*arguments: str, password: str = PASSWORD, monkeypatch: pytest.MonkeyPatch | None = None) -> str:
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        if monkeypatch is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(password + "\n"))
        call_command("access", *arguments, stdout=out, stderr=errors)
        stack.close()
    return out.getvalue()


def test_a_team_a_person_and_a_key_are_made_shown_and_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    access("add-team", "blue")
    access("add-user", "ann", "--team", "blue", "--role", "viewer", monkeypatch=monkeypatch)
    secrets = [access("new-webhook-secret", "blue").strip() for _ in range(2)]
    assert secrets[0] != secrets[1] == letters.team_secret(Team.objects.get(name="blue").pk)
    key = access("add-key", "script", "--team", "blue", "--days", "30").strip()
    caller = caller_from_key(key)
    assert caller is not None
    assert (caller.role, caller.name) == (Role.SUBMITTER, "key script")
    assert authenticate(HttpRequest(), username="ann", password=PASSWORD) is not None
    listed = access("list")
    assert "team blue" in listed and "user ann: viewer" in listed and "script: submitter, works" in listed
    assert key not in listed and key.partition(".")[2] not in listed
    prefix = ApiKey.objects.get().prefix
    access("revoke-key", prefix)
    assert "revoked" in access("list")
    with pytest.raises(CommandError, match="No working key"):
        access("revoke-key", prefix)


def test_an_expired_key_is_listed_as_such(team: Team) -> None:
    ApiKey.objects.create_key(name="old", team=team, expiry_date=timezone.now() - timedelta(days=1))
    assert "old: submitter, expired" in access("list")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add-team", "two words"], "slug"),
        (["add-team", ""], "blank"),
        (["add-team", "team"], "already exists"),
        (["add-team", "x" * 65], "64"),
        (["add-key", "k", "--team", "nobody"], "add-team nobody"),
        (["add-user", "ann", "--team", "nobody"], "add-team nobody"),
        (["add-key", "k", "--team", "team", "--role", "king"], "invalid choice"),
        (["add-key", "k", "--team", "team", "--days", "x"], "invalid int"),
        (["add-key", "k"], "--team"),
        (["add-key", "x" * 51, "--team", "team"], "50"),
        (["add-key", "", "--team", "team"], "blank"),
        (["unlock", "nobody"], "no failed logins as nobody"),
        (["revoke-key", "nothing"], "No working key"),
        (["revoke-key", ""], "No working key"),
        (["fly"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_input_says_what_is_wrong(team: Team, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        access(*arguments)
    assert (Team.objects.count(), User.objects.count(), ApiKey.objects.count()) == (1, 0, 0)


@pytest.mark.parametrize("days", ["-1", "0", "99999999"])
def test_a_key_with_an_odd_life_is_refused(team: Team, days: str) -> None:
    with pytest.raises(CommandError):
        access("add-key", "k", "--team", "team", "--days", days)
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    ("name", "password"), [("ann", ""), ("ann", "short"), ("ann", "password123"), ("", PASSWORD), ("a b", PASSWORD)]
)
def test_a_wrong_name_or_weak_password_makes_no_person(
    team: Team, name: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError):
        access("add-user", name, "--team", "team", password=password, monkeypatch=monkeypatch)
    assert not User.objects.exists()


def test_a_name_that_is_taken_is_said_so(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    access("add-user", "ann", "--team", "team", monkeypatch=monkeypatch)
    with pytest.raises(CommandError, match="exists"):
        access("add-user", "ann", "--team", "team", monkeypatch=monkeypatch)


def test_sweep_by_hand_tells_how_many_go_on(team: Team) -> None:
    make_sent(team)
    make_sent(team, lease_until=timezone.now() - timedelta(seconds=1), sent_at=None)
    make_running(team)
    out = io.StringIO()
    call_command("sweep", stdout=out)
    assert "1 job" in out.getvalue()
    out = io.StringIO()
    call_command("sweep", "--everything", stdout=out)
    assert "2 jobs" in out.getvalue()
    assert set(Job.objects.values_list("state", flat=True)) == {State.QUEUED, State.RETRYING}


def manage(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "BROKER_URL", "DJANGO_SECRET_KEY")}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=inherited | {"RUN_DIR": str(folder)} | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_defaults_pass_the_checks_and_the_migrations_are_complete(tmp_path: Path) -> None:
    done = manage("check", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = manage("makemigrations", "--check", "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# Each process is told several: those of one can stand beside each other.
@pytest.mark.parametrize(
    "wrong",
    [
        {
            "SYNC_WAIT_SECONDS=0": ["E002", "SYNC_WAIT_SECONDS"],
            "MAX_WAITERS=-1": ["E002", "MAX_WAITERS"],
            "LEASE_SECONDS=-5": ["E002", "LEASE_SECONDS"],
            "CLAIM_SECONDS=0": ["E002", "CLAIM_SECONDS"],
            "MAX_REQUEST_COLUMNS=0": ["E002", "MAX_REQUEST_COLUMNS"],
            "LOGIN_FAILURES=0": ["E004", "LOGIN_FAILURES"],
            "LOGIN_LOCK_MINUTES=0": ["E004", "LOGIN_LOCK_MINUTES"],
            "TRUSTED_PROXIES=10.0.0.7,proxy": ["E004", "TRUSTED_PROXIES", "'proxy'"],
            "SCALE_FROM_ZERO=cpu,tpu": ["E005", "SCALE_FROM_ZERO", "'tpu'", "cpu, gpu"],
            "METRICS_ADDRESS=9100": ["E006", "METRICS_ADDRESS", "127.0.0.1:9100"],
            "SINKS_FILE=/nowhere/sinks.yaml": ["E007", "SINKS_FILE", "/nowhere/sinks.yaml"],
            "MODEL_STORE=/nowhere/at/all": ["E003", "/nowhere/at/all", "MODEL_STORE"],
        },
        {
            "DATABASE_URL=postgres://u@127.0.0.1/x": ["E001", "DJANGO_SECRET_KEY"],
            "BROKER_URL=amqp://x": ["E001", "DJANGO_SECRET_KEY"],
            "LOGIN_LOCK_MINUTES=525601": ["E004", "525,600 at most"],
            "TRUSTED_PROXIES=10.0.0.7/8": ["E004", "TRUSTED_PROXIES"],
        },
    ],
    ids=["limits and places", "secret and upper limits"],
)
def test_wrong_settings_are_found_by_check_each_with_what_to_do(tmp_path: Path, wrong: dict[str, list[str]]) -> None:
    done = manage("check", folder=tmp_path, **dict(setting.split("=", 1) for setting in wrong))
    assert done.returncode != 0
    told = done.stderr.partition("ERRORS:\n")[2].partition("\nWARNINGS:")[0].split("\n?: ")
    for setting, words in wrong.items():
        assert any(all(word in error for word in words) for error in told), f"{setting}\n{done.stderr}"


def test_a_setting_that_is_no_number_is_named(tmp_path: Path) -> None:
    done = manage("check", folder=tmp_path, MAX_REQUEST_ROWS="many")
    assert done.returncode != 0
    assert "MAX_REQUEST_ROWS" in done.stderr, done.stderr


def test_a_broken_manifest_is_reported_with_file_line_and_reason_and_the_others_are_served(
    tmp_path: Path, store: Path, team: Team
) -> None:
    own = tmp_path / "store"
    shutil.copytree(store, own, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    broken = own / "wine" / "1" / "manifest.yaml"
    text = broken.read_text()
    line = text[: text.index("runtime:")].count("\n") + 1
    broken.write_text(text.replace("runtime: xgboost", "runtime: abacus"))
    done = manage("check", folder=tmp_path / "run", MODEL_STORE=str(own))
    assert done.returncode == 0, done.stderr
    assert "W001" in done.stderr and f"{broken}:{line}" in done.stderr and "runtime" in done.stderr, done.stderr
    ask = (
        "from django.test import Client; from inference_portal.store import model_store as s;"
        "print({m: sorted(v) for m, v in s().snapshot().releases.items()});"
        "c = Client(headers={'host': 'localhost'}); print(c.get('/v2/health/ready').status_code)"
    )
    done = manage("shell", "--no-imports", "-c", ask, folder=tmp_path / "run", MODEL_STORE=str(own))
    assert done.stdout.split("\n")[:2] == ["{'breast_cancer': ['1'], 'churn': ['1'], 'diabetes': ['1']}", "200"], (
        done.stderr
    )


def test_the_command_for_a_person_without_arguments_is_a_help(tmp_path: Path) -> None:
    done = manage("access", folder=tmp_path)
    assert done.returncode != 0
    assert "add-key" in done.stderr
    assert "Traceback" not in done.stderr
