"""POST /api/uploads/: a file streamed into the storage, whole or not at all, and never in memory."""

import hashlib
import io
import os
import re
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.batches import uploads
from inference_portal.batches.models import Batch
from inference_portal.batches.uploads import safe_name
from tests.integration.http import client, problem, session
from workers.datasets import place

pytestmark = pytest.mark.django_db
PATH = "/api/uploads/"


@pytest.fixture(autouse=True)
def storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A storage of this test's own."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def files(storage: Path) -> list[Path]:
    """Return every file in it, half-written ones too."""
    return [path for path in storage.rglob("*") if path.is_file()]


def upload(sender: Client, data: bytes, name: str = "rows.csv", **more: Any) -> Any:
    return sender.post(PATH, {"file": SimpleUploadedFile(name, data), **more})


def form(data: bytes, *, name: str = "rows.csv", end: bool = True) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    return head + data + (f"\r\n--{BOUNDARY}--\r\n".encode() if end else b"")


def chunked(body: Any) -> dict[str, Any]:
    """Return what makes a request's body one of unknown length."""
    return {
        "CONTENT_TYPE": MULTIPART_CONTENT,
        "CONTENT_LENGTH": "",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input": body,
    }


@pytest.mark.parametrize("reader", ["nobody", "a batch", "a batch over its folder", "a purged batch", "a schedule"])
def test_old_uploads_go_when_new_ones_come_unless_something_may_read_them(
    team: Team, submitter: Client, storage: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.setattr(uploads, "_looked", {})
    settings.RESULT_RETENTION_HOURS = 1
    uri = upload(submitter, b"old").json()["uri"]
    recent = upload(submitter, b"recent").json()["uri"]
    read = uri.rpartition("/")[0] if "folder" in reader else uri
    body = {"model": "wine", "input": {"uri": read}, "output": {"format": "csv"}}
    if "batch" in reader:
        accepted = submitter.post("/api/batches/", body, content_type="application/json")
        assert accepted.status_code == 202, accepted.content
        if "purged" in reader:
            Batch.objects.update(purged_at=timezone.now())
    if reader == "a schedule":
        schedule = {"name": "s", "cron": "0 3 * * *", "timezone": "UTC", "batch": body}
        made = submitter.post("/api/schedules/", schedule, content_type="application/json")
        assert made.status_code == 201, made.content
    two_hours_ago = time.time() - 7_200
    os.utime((storage / uri.removeprefix("store://")).parent, (two_hours_ago, two_hours_ago))
    kept = reader in ("a batch", "a batch over its folder", "a schedule")
    assert uploads.forget_old(team.pk) == (not kept)
    assert place.exists(uri) is kept and place.exists(recent)
    assert uploads.forget_old(team.pk + 1) == 0


def test_a_process_looks_for_old_uploads_when_it_takes_one_but_not_each_time(
    team: Team, submitter: Client, storage: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_looked", {})
    settings.RESULT_RETENTION_HOURS = 1e-9
    first = upload(submitter, b"1").json()["uri"]
    assert not place.exists(first)
    assert place.exists(upload(submitter, b"2").json()["uri"])


def test_a_file_lies_in_the_storage_under_a_name_of_its_own(team: Team, submitter: Client, storage: Path) -> None:
    data = bytes(range(256)) * 10_000
    answer = upload(submitter, data, "wines 2026.parquet")
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert re.fullmatch(rf"store://uploads/{team.pk}/[0-9a-f-]{{36}}/wines_2026\.parquet", body["uri"])
    assert (body["bytes"], body["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    (path,) = files(storage)
    assert path == storage / body["uri"].removeprefix("store://") and path.read_bytes() == data
    assert upload(submitter, data).json()["uri"] != upload(submitter, data).json()["uri"]


def test_an_empty_file_is_a_file(submitter: Client) -> None:
    assert upload(submitter, b"").json()["bytes"] == 0


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("rows.csv.gz", "rows.csv.gz"),
        ("../../etc/passwd", "etc_passwd"),
        ("..", "data"),
        (".hidden.csv", "hidden.csv"),
        ("_temporary.csv", "temporary.csv"),
        ("Weine (März).csv", "Weine_M_rz_.csv"),
        ("a\0b\n.csv", "a_b_.csv"),
        ("a..b...csv", "a.b.csv"),
        ("x" * 300 + ".parquet", "x" * 92 + ".parquet"),
    ],
)
def test_a_name_becomes_one_that_any_storage_takes(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_file_that_is_too_large_is_refused_by_its_length_and_while_it_comes(
    submitter: Client, storage: Path, settings: Any
) -> None:
    settings.MAX_UPLOAD_BYTES = 1_000
    assert upload(submitter, b"x" * 1_000).status_code == 201
    before = files(storage)
    problem(upload(submitter, b"x" * 1_001), 413, "too-large")
    problem(upload(submitter, b"x" * 10_000_000), 413, "too-large")
    assert files(storage) == before


def test_a_body_that_breaks_off_leaves_nothing(submitter: Client, storage: Path) -> None:
    for body in (form(b"1,2\n" * 1_000_000, end=False), form(b"", end=False), form(b"1,2\n")[:-20]):
        problem(submitter.generic("POST", PATH, body, MULTIPART_CONTENT), 400, "malformed")
    assert files(storage) == []


def test_a_body_of_unknown_length_is_read_to_its_end(submitter: Client, storage: Path, settings: Any) -> None:
    def send(body: bytes) -> Any:
        return submitter.generic("POST", PATH, b"", **chunked(io.BytesIO(body)))

    assert send(form(b"1,2\n" * 100_000)).json()["bytes"] == 400_000
    problem(send(form(b"1,2\n", end=False)), 400, "malformed")
    settings.MAX_UPLOAD_BYTES = 1_000
    problem(send(form(b"1,2\n" * 10_000)), 413, "too-large")
    assert len(files(storage)) == 1


def test_what_is_no_form_with_one_file_is_refused_and_leaves_nothing(submitter: Client, storage: Path) -> None:
    problem(submitter.post(PATH, {"file": "text"}, "application/json"), 415, "unsupported-media-type")
    problem(submitter.generic("POST", PATH, b"1,2", "text/csv"), 415, "unsupported-media-type")
    problem(submitter.generic("POST", PATH), 415, "unsupported-media-type")
    problem(submitter.post(PATH), 422, "invalid-input")
    for body, pointer in (
        ({"file": "no file"}, "/file"),
        ({"data": SimpleUploadedFile("a.csv", b"1")}, "/data"),
        ({"file": SimpleUploadedFile("a.csv", b"1"), "model": "wine"}, "/model"),
        ({"file": [SimpleUploadedFile("a.csv", b"1"), SimpleUploadedFile("b.csv", b"2")]}, "/file"),
    ):
        answer = problem(submitter.post(PATH, body), 422, "invalid-input")
        assert answer["errors"][0]["pointer"] == pointer
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\xff"):
        problem(submitter.generic("POST", PATH, form(b"1"), kind), 400, "malformed")
    problem(submitter.generic("POST", PATH, b"nonsense" * 10, MULTIPART_CONTENT), 422, "invalid-input")
    assert files(storage) == []


def test_a_viewer_may_not_upload_and_nothing_of_the_body_is_stored(team: Team, storage: Path) -> None:
    problem(upload(client(team, Role.VIEWER), b"1"), 403, "forbidden")
    problem(upload(Client(), b"1"), 401, "unauthenticated")
    browser = session(team, csrf=True, role=Role.SUBMITTER)
    problem(upload(browser, b"1"), 403, "forbidden")
    assert not storage.exists()
    # By its header: to find a token in the body, all of it would have to be read first.
    browser.cookies["csrftoken"] = token = "a" * 32
    problem(upload(browser, b"1", csrfmiddlewaretoken=token), 403, "forbidden")
    answer = browser.post(PATH, {"file": SimpleUploadedFile("a.csv", b"1")}, headers={"X-CSRFToken": token})
    assert answer.status_code == 201


def test_a_storage_that_cannot_take_it_is_a_problem_of_ours(
    submitter: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "file"))
    problem(upload(submitter, b"1"), 503, "unavailable")
    if Path("/dev/full").exists():
        # Every write there says that the disk is full.
        monkeypatch.setenv("DATA_DIR", str(tmp_path))
        monkeypatch.setattr("builtins.open", _full(open))
        problem(upload(submitter, b"1" * 3_000_000), 503, "unavailable")


def _full(real: Any) -> Any:
    def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return real("/dev/full", "wb") if str(path).endswith(".part") else real(path, mode, *args, **kwargs)

    return opened


def test_memory_does_not_grow_with_the_file(submitter: Client, storage: Path) -> None:
    class Endless(io.RawIOBase):
        """A body of 64 MiB that is nowhere as a whole."""

        def __init__(self) -> None:
            self.parts = [form(b"", end=False), *[b"x" * 65_536] * 1_024, f"\r\n--{BOUNDARY}--\r\n".encode()]

        def read(self, size: int = -1) -> bytes:
            return self.parts.pop(0) if self.parts else b""

    tracemalloc.start()
    try:
        answer = submitter.generic("POST", PATH, b"", **chunked(Endless()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.json()["bytes"] == 64 * 2**20
    assert peak < 16 * 2**20
