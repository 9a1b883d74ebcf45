"""Folders and the system's own storage."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from workers.datasets import DatasetError, Unreachable, place
from workers.datasets.troubles import reaching, understanding


def refused(uri: str) -> str:
    with pytest.raises(DatasetError) as error:
        place.check_uri(uri)
    return str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/data/x.csv",
        "http://x/y.csv",
        "file:/x.csv",
        "file://host/x.csv",
        "file:///",
        "store://",
        "store://a//b",
        "store://a/../b",
        "store://a/./b",
        "store://../b",
        "store://a\0b",
        "store://a\nb",
        "store://a\ud800",
        "store://" + "a" * 3000,
        "s3://",
        "s3://bucket/x.csv",
    ],
)
def test_a_wrong_uri_is_refused(folder: Path, uri: str) -> None:
    assert refused(uri)


def test_a_path_must_be_inside_of_an_allowed_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.check_uri(f"file://{folder}/x.csv")
    place.check_uri(f"file://{folder}")
    assert "DATA_FOLDERS" in refused("file:///etc/passwd")
    assert "DATA_FOLDERS" in refused(f"file://{folder}more/x.csv")
    monkeypatch.setenv("DATA_FOLDERS", "")
    assert "DATA_FOLDERS" in refused(f"file://{folder}/x.csv")


def test_links_are_followed_before_it_is_seen_where_a_file_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "link.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "out").symlink_to(tmp_path)
    (folder / "right.csv").symlink_to(folder / "real.csv")
    (folder / "real.csv").write_text("a\n1\n")
    assert place.file(f"file://{folder}/right.csv").size == 4
    for uri in (f"file://{folder}/sub/link.csv", f"file://{folder}/out/secret.csv"):
        assert "DATA_FOLDERS" in refused(uri)
        with pytest.raises(DatasetError):
            place.open_input(uri)
    with pytest.raises(DatasetError, match="sub/link.csv is in none"):
        place.files(f"file://{folder}/sub")


def test_links_may_not_lead_out_of_the_storage(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "out").symlink_to(folder)
    assert "leads out" in refused("store://out/x.csv")


def test_buckets_and_parts_of_them_are_allowed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_BUCKETS", "one, two/part/")
    place.check_uri("s3://one/x.csv")
    place.check_uri("s3://two/part/x.csv")
    for uri in ("s3://two/x.csv", "s3://two/particular/x.csv", "s3://ones/x.csv"):
        assert "DATA_BUCKETS" in refused(uri)


def test_the_storage_is_nobodys_folder_though_all_may_use_what_it_lies_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(folder / "store"))
    (folder / "store" / "uploads" / "7").mkdir(parents=True)
    (folder / "store" / "uploads" / "7" / "x.csv").write_text("a\n1\n")
    for uri in (f"file://{folder}/store", f"file://{folder}/store/uploads/7/x.csv"):
        assert "lies in the storage of this system" in refused(uri)
    with pytest.raises(DatasetError, match="lies in the storage"):
        place.files(f"file://{folder}")
    place.check_uri("store://uploads/7/x.csv")
    monkeypatch.setenv("DATA_BUCKETS", "lake")
    monkeypatch.setenv("DATA_DIR", "s3://lake/portal/")
    assert "lies in the storage of this system" in refused("s3://lake/portal/uploads/7/x.csv")
    place.check_uri("s3://lake/portals/x.csv")


def test_the_files_of_a_folder_are_sorted_and_hidden_ones_left_out(folder: Path) -> None:
    for name in ("b.csv", "a/2.csv", "a/1.csv", "_SUCCESS", ".x.csv.part", "_tmp/x.csv", "a/.y", "a b%20.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    found = place.files(f"file://{folder}/")
    assert [file.uri.removeprefix(f"file://{folder}/") for file in found] == [
        "a b%20.csv",
        "a/1.csv",
        "a/2.csv",
        "b.csv",
    ]
    assert found[-1] == place.file(f"file://{folder}/b.csv")
    assert place.files(f"file://{folder}/b.csv") == [found[-1]]


def test_a_file_that_changes_has_another_version(folder: Path) -> None:
    (folder / "x").write_text("1")
    before = place.file(f"file://{folder}/x")
    os.utime(folder / "x", ns=(0, int(before.version) + 1))
    assert place.file(f"file://{folder}/x") != before


def test_what_is_no_file_is_said(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder)
    for uri, reason in (
        ("none.csv", "no such file"),
        ("pipe", "no permission"),
        ("", "circle"),
    ):
        with pytest.raises(DatasetError, match=reason):
            place.files(f"file://{folder}/{uri}")
    with pytest.raises(DatasetError, match="a folder"):
        place.open_input(f"file://{folder}")


def test_writing_appears_whole_and_makes_folders(folder: Path) -> None:
    uri = "store://batches/1/output.csv"
    assert not place.exists(uri)
    with place.writing(uri, replace=False) as sink:
        sink.write(b"abc")
        assert not place.exists(uri)
    with place.open_input(uri) as source:
        assert source.read() == b"abc"
    with place.writing(uri, replace=True) as sink:
        sink.write(b"d")
    assert [file.size for file in place.files("store://batches")] == [1]


def test_nothing_is_left_after_an_error(folder: Path) -> None:
    with pytest.raises(KeyError), place.writing(f"file://{folder}/x.csv", replace=True) as sink:
        sink.write(b"abc")
        raise KeyError
    assert os.listdir(folder) == []


def test_what_is_there_is_not_replaced_however_late_it_came(folder: Path) -> None:
    uri = f"file://{folder}/x.csv"
    with pytest.raises(DatasetError, match="something already"), place.writing(uri, replace=False) as sink:
        sink.write(b"mine")
        (folder / "x.csv").write_text("another's")
    assert (folder / "x.csv").read_text() == "another's"
    with pytest.raises(DatasetError, match="something already"), place.writing(uri, replace=False):
        pytest.fail("nobody should get here")
    assert os.listdir(folder) == ["x.csv"]


def test_of_many_writers_one_wins(folder: Path) -> None:
    won = []

    def write(number: int) -> None:
        try:
            with place.writing(f"file://{folder}/x", replace=False) as sink:
                sink.write(bytes([number]))
            won.append(number)
        except DatasetError:
            pass

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (folder / "x").read_bytes() == bytes(won)


def test_what_a_killed_writer_has_left_goes_and_what_a_living_one_writes_stays(folder: Path) -> None:
    uri = f"file://{folder}/x.csv"
    code = """if True:
        import os, sys
        from workers.datasets import place
        with place.writing(sys.argv[1], replace=False) as sink:
            sink.write(b"abc")
            sink.flush()
            os.kill(os.getpid(), 9)
    """
    assert subprocess.run([sys.executable, "-c", code, uri], check=False).returncode == -9
    (left,) = os.listdir(folder)
    with place.writing(uri, replace=False) as sink:
        sink.write(b"mine")
        place.forget_dead(uri)
        (mine,) = os.listdir(folder)
        assert mine != left
    assert os.listdir(folder) == ["x.csv"]
    # Others' files of nearly the same name are not touched.
    for name in (".x.csv.part", ".y.csv.0123456789abcdef0123456789abcdef.part", "x.csv"):
        (folder / name).write_bytes(b"")
    place.forget_dead(uri)
    place.forget_dead(f"file://{folder}/no/such/folder.csv")
    assert len(os.listdir(folder)) == 3


def test_a_folder_is_no_output(folder: Path) -> None:
    (folder / "sub").mkdir()
    for uri in ("sub", "sub/"):
        with pytest.raises(DatasetError, match="folder"), place.writing(f"file://{folder}/{uri}", replace=True):
            pytest.fail("nobody should get here")


def test_a_tree_is_removed_twice(folder: Path) -> None:
    for name in ("a/b/c", "a/d"):
        with place.writing(f"store://{name}", replace=True) as sink:
            sink.write(b"x")
    place.remove_tree("store://a")
    place.remove_tree("store://a")
    assert not place.exists("store://a")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "Input/output error"), Unreachable),
        (OSError(errno.ENOSPC, "No space left on device"), Unreachable),
        (OSError(errno.ESTALE, "Stale file handle"), Unreachable),
        (OSError("When reading: AWS Error NETWORK_CONNECTION during HeadObject operation"), Unreachable),
        (OSError("When reading: AWS Error ACCESS_DENIED during HeadObject operation"), DatasetError),
        (OSError("When listing: AWS Error NO_SUCH_BUCKET during ListObjects operation"), DatasetError),
        (PermissionError(errno.EACCES, "Permission denied"), DatasetError),
        (FileNotFoundError("Path does not exist"), DatasetError),
        (OSError(errno.ENAMETOOLONG, "File name too long"), DatasetError),
    ],
)
def test_a_storage_that_may_answer_later_is_told_from_what_stays_wrong(
    error: OSError, expected: type[Exception]
) -> None:
    for context in (reaching("store://x"), understanding("store://x", "Parquet")):
        with pytest.raises(expected, match="store://x: "), context:
            raise error


def test_contents_that_can_not_be_read_are_no_trouble_of_the_storage() -> None:
    expected = pytest.raises(DatasetError, match="store://x is not Parquet that can be read: Couldn't")
    with expected, understanding("store://x", "Parquet"):
        raise OSError("Couldn't deserialize thrift")
    with pytest.raises(MemoryError), understanding("store://x", "Parquet"):
        raise MemoryError


def test_addresses_are_checked_without_pyarrow() -> None:
    code = "import sys; from workers.datasets import place, Input; place.locate; assert 'pyarrow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)
