"""The file with the sinks: what is wrong with it is told with the line, the sink and the field; keys are safe."""

from pathlib import Path
from typing import Any

import pytest

from inference_portal.deliveries.sinks.file import read_sinks
from inference_portal.deliveries.sinks.folder import FolderSink
from inference_portal.deliveries.sinks.s3 import reason
from inference_portal.deliveries.sinks.sink import NotSent
from tests.stack import ROOT
from workers.template.yaml_file import ManifestError

FOLDER = "shelf:\n  type: folder\n  root: /srv/results\n"
EVENT: dict[str, Any] = {
    "team": "Lab-1",
    "data": {
        "job": "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11",
        "model": "wine",
        "version": "1",
        "finished_at": "2026-01-31T03:04:05.000006Z",
    },
}


def read(folder: Path, text: str) -> Any:
    path = folder / "sinks.yaml"
    path.write_text(text)
    return read_sinks(path)


def test_every_kind_is_read_with_its_defaults(tmp_path: Path) -> None:
    sinks = read(
        tmp_path,
        FOLDER
        + "lake: {type: s3, bucket: results, format: parquet, teams: [lab]}\n"
        + "line: {type: amqp, exchange: subscriber.results}\n"
        + "desk: {type: webhook, url: 'http://10.0.0.7/in', key_variable: DESK_KEY, events: [inference.job.failed]}\n",
    )
    assert list(sinks) == ["shelf", "lake", "line", "desk"]
    success, failure = "inference.job.succeeded", "inference.job.failed"
    wanted = {name: [sink.wants(success), sink.wants(failure)] for name, sink in sinks.items()}
    assert wanted == {"shelf": [True, False], "lake": [True, False], "line": [True, True], "desk": [False, True]}
    assert [sink.is_open_to("other") for sink in sinks.values()] == [True, False, True, True]
    assert read(tmp_path, "# none yet\n") == {}
    assert read_sinks(ROOT / "deploy" / "sinks.yaml") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- lake\n", "1: sinks: Input should be a valid dictionary"),
        ("Lake:\n  type: s3\n", "1: Lake: String should match pattern"),
        ("lake:\n  bucket: results\n", "1: lake: Unable to extract tag"),
        ("lake:\n  type: ftp\n", "1: lake: Input tag 'ftp' found using 'type'"),
        ("lake:\n  type: s3\n", "1: lake.bucket: Field required"),
        ("lake:\n  type: s3\n  bucket: ../etc\n", "3: lake.bucket: String should match"),
        (f"{FOLDER}  colour: red\n", "4: shelf.colour: Extra inputs"),
        (f"{FOLDER}  teams: []\n", "4: shelf.teams: Tuple should have at least 1"),
        ("shelf:\n  type: folder\n  root: results\n", "3: shelf.root: expected the absolute path"),
        ("shelf:\n  type: folder\n  root: /\n", "3: shelf.root: expected the absolute path"),
        (f"{FOLDER}  format: xml\n", "4: shelf.format: Input should be 'json', 'csv' or 'parquet'"),
        (f"{FOLDER}  key: '{{{{ team }}}}.json'\n", "4: shelf.key: expected {{ job }} in it"),
        (f"{FOLDER}  key: '{{{{ job }}}}/{{{{ label }}}}'\n", "4: shelf.key: there is no 'label'"),
        (f"{FOLDER}  key: '{{{{ job }}'\n", "4: shelf.key: expected a name between"),
        (f"{FOLDER}  key: '../{{{{ job }}}}'\n", "4: shelf.key: expected names between slashes"),
        (f"{FOLDER}  key: '/{{{{ job }}}}'\n", "4: shelf.key: expected names between slashes"),
        (f"{FOLDER}  key: 'a//{{{{ job }}}}'\n", "4: shelf.key: expected names between slashes"),
        (f"{FOLDER}  key: '.{{{{ job }}}}'\n", "4: shelf.key: expected names between slashes"),
        ("line:\n  type: amqp\n", "1: line: expected either exchange or queue"),
        ("line: {type: amqp, queue: q, routing_key: k}\n", "1: line: routing_key goes with an exchange"),
        ("line:\n  type: amqp\n  queue: q\n  events: [nothing]\n", "4: line.events.0: there is no such event"),
        ("desk:\n  type: webhook\n  url: https://u:p@host/\n", "3: desk.url: String should match"),
        ("desk:\n  type: webhook\n  url: https://host/\n", "1: desk.key_variable: Field required"),
        ("desk: &a\n  type: *a\n", "2: aliases aren't read here"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ManifestError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/sinks.yaml:{told}")


def test_a_key_is_made_of_plain_names_only() -> None:
    sink = FolderSink(type="folder", root="/srv/results", key="day={{ day }}/{{hour}}/{{ job }}.{{ extension }}")
    assert sink.key_of(EVENT) == "day=2026-01-31/03/0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11.json"
    usual = FolderSink(type="folder", root="/srv/results", format="csv")
    assert usual.key_of(EVENT) == "Lab-1/wine/2026-01-31/0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11.csv"
    for team in ("..", "a/b", "", "a.b", "a\n"):
        with pytest.raises(NotSent, match="the team can't be a part of a key"):
            usual.key_of(EVENT | {"team": team})


def test_of_pyarrow_s_words_the_reason_is_kept() -> None:
    told = "When uploading object with key 'k' in bucket 'b': AWS Error UNKNOWN (HTTP status 403) during PutObject "
    assert reason(f"{told}operation: no") == "S3: UNKNOWN (403): no"
    assert reason("something else") == "S3: something else"
