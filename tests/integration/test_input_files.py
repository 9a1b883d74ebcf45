"""`input_uri`: the input of a job in a file, from the same places as data sets, as if the body had carried it."""

import gzip
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import zstandard
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pyarrow import fs

from inference_portal.accounts.models import Role, Team
from inference_portal.api import input_files
from inference_portal.jobs.models import Job
from tests.integration import rows
from tests.integration.http import ASYNC, BODY, INFER, JOB, JOBS, ROW, check_problem, client, post, problem, put
from tests.integration.test_negotiation import as_arrow, as_csv, as_npy, as_parquet, tensor
from tests.s3_server import s3_server
from workers.datasets import place

pytestmark = pytest.mark.django_db
BULK = "/api/jobs/bulk/"
V2 = {"id": "wines", "inputs": [tensor(data=np.array([ROW, ROW, ROW], "<f4").ravel().tolist())]}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder whose files may be read, and a storage of this test's own."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATA_FOLDERS", str(tmp_path / "read"))
    (tmp_path / "read").mkdir()
    return tmp_path / "read"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        made = fs.S3FileSystem(
            endpoint_override=address, access_key="id", secret_key="key", region="us-east-1", allow_bucket_creation=True
        )
        made.create_dir("bucket")
        yield address


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    named = {"S3_ENDPOINT": endpoint, "S3_REGION": "us-east-1", "DATA_BUCKETS": "bucket, none"}
    for name, value in (named | {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}).items():
        monkeypatch.setenv(name, value)


def written(folder: Path, name: str, data: bytes | None = None) -> str:
    """Return the URI of a file with these bytes, one wine unless told."""
    (folder / name).write_bytes(json.dumps(BODY).encode() if data is None else data)
    return f"file://{folder / name}"


def named(uri: Any, **more: Any) -> dict[str, Any]:
    return {"model": "wine", "input_uri": uri, **more}


def upload(sender: Client, name: str, data: bytes) -> str:
    answer = sender.post("/api/uploads/", {"file": SimpleUploadedFile(name, data)})
    uri: str = answer.json()["uri"]
    return uri


def accepted(answer: Any) -> Job:
    assert answer.status_code == 202, answer.content
    return Job.objects.get(id=answer.json()["Id"])


def refused(answer: Any, status: int = 422, slug: str = "invalid-input") -> str:
    """Return the detail of a refusal that points to the field."""
    faults = problem(answer, status, slug)["errors"]
    assert {fault["pointer"] for fault in faults} == {"/input_uri"}
    assert not Job.objects.exists()
    return str(faults[0]["detail"])


def test_the_job_is_that_of_a_body_with_the_same_bytes(submitter: Client, folder: Path) -> None:
    for name, kind, data in (
        ("plain.json", "application/json", json.dumps(BODY).encode()),
        ("v2.JSON", "application/json", json.dumps(V2).encode()),
        ("wines.csv", as_csv()[0], as_csv()[1]),
        ("wines.parquet", as_parquet()[0], as_parquet()[1]),
        ("wines.arrow", as_arrow()[0], as_arrow()[1]),
        ("wines.arrows", as_arrow()[0], as_arrow()[1]),
        ("wines.npy", as_npy()[0], as_npy()[1]),
    ):
        sent = accepted(post(submitter, INFER, data, content_type=kind, **ASYNC))
        packed = {"": data, ".gz": gzip.compress(data), ".zst": zstandard.compress(data)}
        for ending, content in packed.items():
            job = accepted(post(submitter, JOBS, named(written(folder, name + ending, content), labels=["file"])))
            assert (bytes(job.input), job.input_sha256) == (bytes(sent.input), sent.input_sha256), name + ending
            assert (job.rows, job.reply, job.pool, job.label_list) == (sent.rows, sent.reply, sent.pool, ["file"])


def test_an_upload_is_for_its_own_team_and_what_becomes_of_it_later_changes_nothing(
    team: Team, submitter: Client, tmp_path: Path
) -> None:
    uri = upload(submitter, "wines.csv", as_csv()[1])
    stranger = client(rows.make_team("other"))
    missing = uri.replace("wines", "none")
    texts = [refused(post(stranger, JOBS, named(each))).replace(each, "…") for each in (uri, missing)]
    assert texts[0] == texts[1] == "your team has nothing at …"
    assert "no such file" in refused(post(submitter, JOBS, named(missing)))

    mine = f"{JOBS}{uuid4()}/"
    job = accepted(put(submitter, mine, named(uri)))
    shutil.rmtree(tmp_path / "data")
    # A repeat needs no storage.
    assert accepted(put(submitter, mine, named(uri))) == job
    problem(put(submitter, mine, named(missing)), 422, "idempotency-mismatch")
    problem(put(submitter, mine, JOB), 422, "idempotency-mismatch")
    assert job.rows == 3 and Job.objects.count() == 1


def test_what_cannot_be_read_is_refused_with_its_reason(
    submitter: Client, folder: Path, tmp_path: Path, settings: Any
) -> None:
    settings.MAX_REQUEST_BYTES, settings.MAX_REQUEST_ROWS = 100_000, 50
    header, line = as_csv()[1].split(b"\r\n")[:2]
    (tmp_path / "elsewhere.csv").write_bytes(as_csv()[1])
    (folder / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    wrong = {"instances": [ROW, [*ROW[:2], "red", *ROW[3:]]]}
    for uri, reason in (
        (5, "expected text"),
        (None, "expected text"),
        ("", "no URI"),
        ("http://169.254.169.254/rows.csv", "no URI"),
        ("file://rows.csv", "absolute path"),
        (f"file://{folder}/../elsewhere.csv", "no part of a path"),
        (f"file://{tmp_path}/elsewhere.csv", "none of the folders"),
        (f"file://{folder}/link.csv", "none of the folders"),
        ("s3://bucket/rows.csv", "none of the buckets"),
        (f"file://{folder}/none.csv", "no such file"),
        (f"file://{folder}/folder.csv", "it is a folder"),
        (f"file://{folder}/pipe.csv", "no permission"),
        (written(folder, "rows.txt"), "the end of its name"),
        (written(folder, "rows.gz"), "the end of its name"),
        (written(folder, "empty.csv", b""), "empty"),
        (written(folder, "not.csv"), "the model has no column"),
        (written(folder, "not.json", b"{"), "read as application/json: the body is not JSON"),
        (written(folder, "not.parquet"), "read as application/vnd.apache.parquet"),
        (written(folder, "not.json.gz"), "not gzip"),
        (written(folder, "jobs.json", json.dumps(JOB).encode()), "expected 'inputs'"),
        (written(folder, "wrong.json", json.dumps(wrong).encode()), "/instances/1/2: row 1, column 'ash'"),
    ):
        assert reason in refused(post(submitter, JOBS, named(uri))), uri
    for uri, reason in (
        (written(folder, "long.json", json.dumps(BODY).encode() + bytes(100_000)), "100,098 bytes"),
        (written(folder, "packed.csv.gz", gzip.compress(bytes(100_001))), "more than the 100,000 bytes"),
        (written(folder, "rows.csv", b"\n".join([header, *[line] * 51])), "more than the 50 rows"),
    ):
        assert reason in refused(post(submitter, JOBS, named(uri)), 413, "too-large"), uri
    for more in ({"rows": [ROW]}, {"inputs": []}):
        fault = problem(post(submitter, JOBS, named("store://x.csv", **more)), 422, "invalid-input")["errors"][0]
        assert fault == {"pointer": "", "detail": "expected one of 'inputs' (V2 tensors), 'rows' and 'input_uri'"}
    problem(
        post(client(rows.make_team("other"), Role.VIEWER), JOBS, named(written(folder, "x.json"))), 403, "forbidden"
    )


def test_s3_is_read_in_the_time_that_there_is(submitter: Client, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, s3)
    with place.writing("s3://bucket/wines.parquet", replace=True) as sink:
        sink.write(as_parquet()[1])
    uri = "s3://bucket/wines.parquet"
    assert "no such" in refused(post(submitter, JOBS, named("s3://bucket/none.parquet")))
    assert "no such" in refused(post(submitter, JOBS, named("s3://none/wines.parquet")))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # It takes connections and says nothing.
        monkeypatch.setattr(input_files, "READ_SECONDS", 0.2)
        use(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        answer = post(submitter, JOBS, named(uri))
        assert "didn't answer within" in refused(answer, 503, "unavailable")
        assert answer["Retry-After"] == "1" and answer.json()["retryable"]
        answer = post(submitter, BULK, {"jobs": [named(uri), JOB, named(uri)]})
        results = answer.json()["results"]
        assert [each["status"] for each in results] == [503, 202, 503] and results[0]["retry_after"] == 1
        Job.objects.all().delete()
    monkeypatch.undo()
    use(monkeypatch, s3)
    assert accepted(post(submitter, JOBS, named(uri))).rows == 3


def test_who_waits_for_a_place_to_read_gives_up(
    submitter: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_files, "READ_SECONDS", 0.1)
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(input_files, "_places", places)
    with places:
        answer = post(submitter, JOBS, named(written(folder, "x.json")))
        assert "are being read already" in refused(answer, 503, "unavailable")
    assert accepted(post(submitter, JOBS, named(written(folder, "x.json"))))


def test_a_file_that_is_written_meanwhile_is_read_later(
    submitter: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, opened = written(folder, "x.json"), place.open_input

    def meanwhile(which: str) -> Any:
        file = opened(which)
        os.utime(folder / "x.json", ns=(0, 0))
        return file

    monkeypatch.setattr(place, "open_input", meanwhile)
    assert "changed while it was read" in refused(post(submitter, JOBS, named(uri)), 503, "unavailable")


def test_of_many_each_has_its_own_file_and_together_they_are_as_large_as_one_request(
    submitter: Client, folder: Path, settings: Any
) -> None:
    settings.MAX_REQUEST_BYTES = 2_000
    small, large = written(folder, "x.json"), written(folder, "y.json", json.dumps(BODY).encode() + b" " * 1_890)
    jobs = [named(small), JOB, named(f"{small}.none"), named(large), named(small)]
    results = post(submitter, BULK, {"jobs": jobs}).json()["results"]
    assert [each["status"] for each in results[:4]] == [202, 202, 422, 202], results
    assert results[2]["errors"][0]["pointer"] == "/input_uri"
    check_problem(results[4], 413, "too-large")
    assert Job.objects.count() == 3
