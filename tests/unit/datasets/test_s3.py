"""S3: the same places, on a server of the tests' own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from tests.s3_server import s3_server
from tests.unit.datasets.conftest import SCHEMA, whole
from workers.datasets import DatasetError, Input, Unreachable, place, plan, read, s3_place


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        amazon = fs.S3FileSystem(
            endpoint_override=address, access_key="id", secret_key="key", region="us-east-1", allow_bucket_creation=True
        )
        amazon.create_dir("bucket")
        yield address


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A part of a bucket that is empty and may be used; the system's own storage is in the bucket too."""
    prefix = f"bucket/{tmp_path.name}"
    environment = {
        "S3_ENDPOINT": endpoint,
        "S3_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "DATA_BUCKETS": f"{prefix}, missing-bucket",
        "DATA_DIR": f"s3://{prefix}-store",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{prefix}"


def put(uri: str, content: bytes) -> None:
    with place.writing(uri, replace=True) as sink:
        sink.write(content)


def get(uri: str) -> bytes:
    with place.open_input(uri) as source:
        return bytes(source.read())


def test_writing_appears_whole_under_its_name_alone(bucket: str) -> None:
    uri = f"{bucket}/out/x.csv"
    large = bytes(12_000_000)
    with place.writing(uri, replace=False) as sink:
        sink.write(large)
        assert not place.exists(uri)
    assert get(uri) == large
    put(uri, b"2")
    assert (get(uri), [file.uri for file in place.files(bucket)]) == (b"2", [uri])


def test_nothing_is_left_after_an_error(bucket: str) -> None:
    put(f"{bucket}/x.csv", b"before")
    with pytest.raises(KeyError), place.writing(f"{bucket}/x.csv", replace=True) as sink:
        sink.write(bytes(12_000_000))
        raise KeyError
    assert get(f"{bucket}/x.csv") == b"before"
    listed = s3_place._system().get_file_info(fs.FileSelector(bucket.removeprefix("s3://"), recursive=True))
    assert [info.base_name for info in listed] == ["x.csv"]


def test_what_is_there_is_not_replaced(bucket: str) -> None:
    uri = f"{bucket}/x"
    with pytest.raises(DatasetError, match="something already"), place.writing(uri, replace=False) as sink:
        sink.write(b"mine")
        put(uri, b"another's")
    with pytest.raises(DatasetError, match="something already"), place.writing(uri, replace=False):
        pytest.fail("nobody should get here")
    assert get(uri) == b"another's"


def test_what_is_too_large_for_one_copy_is_sent_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_place, "MAX_COPIED", 10)
    put(f"{bucket}/x", b"more than ten bytes")
    assert get(f"{bucket}/x") == b"more than ten bytes"


def test_nothing_is_there_where_sending_again_breaks_off(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_place, "MAX_COPIED", 10)
    # Which no file reads so many of.
    monkeypatch.setattr(s3_place, "STEP_BYTES", "x")
    with pytest.raises(TypeError):
        put(f"{bucket}/x", b"more than ten bytes")
    listed = s3_place._system().get_file_info(fs.FileSelector(bucket.removeprefix("s3://"), recursive=True))
    assert list(listed) == []


def test_a_file_that_is_replaced_has_another_version_at_once(bucket: str) -> None:
    put(f"{bucket}/x", b"1")
    before = place.file(f"{bucket}/x")
    put(f"{bucket}/x", b"2")
    after = place.file(f"{bucket}/x")
    assert (before.size, after.size) == (1, 1)
    assert before.version != after.version


def test_a_tree_is_removed_twice(bucket: str) -> None:
    for name in ("a/b/c", "a/d", "e"):
        put(f"store://{name}", b"x")
    place.remove_tree("store://a")
    place.remove_tree("store://a")
    assert (place.exists("store://a"), place.exists("store://e")) == (False, True)


def test_what_is_missing_or_forbidden_stays_wrong(bucket: str) -> None:
    for uri in (f"{bucket}/none", "s3://missing-bucket/x"):
        with pytest.raises(DatasetError, match="there is no such"):
            place.files(uri)
        with pytest.raises(DatasetError, match="there is no such"):
            place.open_input(uri)
    with pytest.raises(DatasetError, match="there is no such"):
        put("s3://missing-bucket/x", b"x")


def test_a_server_that_does_not_answer_may_do_so_later(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(s3_place, "TRIES", 1)
    for attempt in (place.files, place.file, place.open_input, place.exists, place.remove_tree):
        with pytest.raises(Unreachable, match="doesn't answer"):
            attempt(f"{bucket}/x")
    with pytest.raises(Unreachable, match="doesn't answer"):
        put(f"{bucket}/x", b"x")
    with pytest.raises(Unreachable, match="doesn't answer"):
        plan(Input(uri=f"{bucket}/x.parquet"), SCHEMA, [], 10, "store://spool")


def test_a_folder_of_parquet_is_planned_and_read(bucket: str) -> None:
    a = np.arange(100, dtype=np.float32)
    for number in range(4):
        with place.writing(f"{bucket}/data/a/part-{number}.parquet", replace=True) as sink:
            part = a[number * 25 : number * 25 + 25]
            pq.write_table(pa.table({"a": part, "b": -part}), sink, row_group_size=10)
    put(f"{bucket}/data/_SUCCESS", b"")
    got = whole(f"{bucket}/data", chunk_rows=30)
    assert got.ranges == [30, 30, 30, 10]
    np.testing.assert_array_equal(got.values, np.column_stack([a, -a]))


def test_a_packed_csv_is_spooled_and_a_changed_one_found(bucket: str) -> None:
    import gzip

    put(f"{bucket}/x.csv.gz", gzip.compress(b"a,b\n1,2\n3,4\n"))
    assert whole(f"{bucket}/x.csv.gz").values.tolist() == [[1, 2], [3, 4]]
    put(f"{bucket}/x.csv", b"a,b\n1,2\n3,4\n")
    data = Input(uri=f"{bucket}/x.csv")
    planned = plan(data, SCHEMA, [], 1, "store://spool")
    put(f"{bucket}/x.csv", b"a,b\n1,2\n3,5\n")
    with pytest.raises(DatasetError, match="changed while the run was going on"):
        list(read(data, planned.files, planned.ranges[0].source, SCHEMA, []))
