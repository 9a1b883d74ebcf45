"""Content-Encoding: what is undone, what is refused, and that a bomb costs little."""

import gzip
import re
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import psutil
import pyarrow as pa
import pytest
import zstandard

from workers.formats import Malformed, TooLarge, UnknownCoding
from workers.formats.inflate import inflate

TEXT = b'{"instances": [[1, 2, 3]]}' * 5000
MOST = len(TEXT)


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, "zstd", asbytes=True)
    return packed


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    ("gzip",): gzip.compress(TEXT),
    ("x-gzip",): gzip.compress(TEXT, 1),
    ("deflate",): zlib.compress(TEXT),
    ("Deflate ",): raw_deflate(TEXT),
    ("zstd",): zstd(TEXT),
    ("zstd", "identity"): pa.Codec("zstd", 19).compress(TEXT, asbytes=True),
    ("gzip", "zstd"): zstd(gzip.compress(TEXT)),
    ("deflate", "gzip", "gzip"): gzip.compress(gzip.compress(zlib.compress(TEXT))),
    (): TEXT,
    ("identity", ""): TEXT,
}
packed = pytest.mark.parametrize(("codings", "body"), PACKED.items(), ids=lambda each: str(each)[:30])
compressed = pytest.mark.parametrize(
    ("codings", "body"), [item for item in PACKED.items() if item[1] != TEXT], ids=lambda each: str(each)[:30]
)


def in_parts(body: bytes, size: int) -> Iterator[bytes]:
    yield b""
    for start in range(0, len(body), size):
        yield body[start : start + size]


@packed
def test_codings_are_undone_last_first_whatever_the_parts(codings: tuple[str, ...], body: bytes) -> None:
    assert inflate(body, list(codings), MOST) == TEXT
    for size in (1, 7, 65536):
        assert inflate(in_parts(body, size), list(codings), MOST) == TEXT


@packed
def test_one_byte_too_much_is_too_large(codings: tuple[str, ...], body: bytes) -> None:
    with pytest.raises(TooLarge, match=f"{MOST - 1:,} bytes"):
        inflate(body, list(codings), MOST - 1)


@compressed
def test_what_ends_too_early_or_goes_on_after_its_end_is_malformed(codings: tuple[str, ...], body: bytes) -> None:
    wrong = [
        b"",
        body[:1],
        body[:2],
        body[: len(body) // 2],
        body[:-1],
        body + b"x",
        body + b"\0" * 100,
        b"\xff" + body[1:],
    ]
    for data in wrong:
        for parts in (data, in_parts(data, 5)):
            with pytest.raises(Malformed):
                inflate(parts, list(codings), MOST)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd)])
def test_a_body_is_one_piece(coding: str, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed, match="goes on after its end"):
        inflate(pack(TEXT) + pack(b""), [coding], MOST)


def test_a_window_larger_than_http_allows_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(Malformed, match="too much memory"):
        inflate(packer.compress(TEXT) + packer.flush(), ["zstd"], MOST)


@pytest.mark.parametrize(("codings", "body"), [item for item in PACKED.items() if "zstd" in item[0]])
def test_broken_bodies_leave_no_memory_behind(codings: tuple[str, ...], body: bytes) -> None:
    def refuse(times: int) -> int:
        for _ in range(times):
            with pytest.raises(Malformed):
                inflate(body[:-1], list(codings), MOST)
        return psutil.Process().memory_info().rss

    assert refuse(300) + 2_000_000 > refuse(1000)


@pytest.mark.parametrize("coding", ["br", "compress", "gzip2", "*", "x"])
def test_an_unknown_coding_is_told_by_name(coding: str) -> None:
    with pytest.raises(UnknownCoding, match=re.escape(f"'{coding}' isn't read here; send gzip, deflate, zstd or none")):
        inflate(b"x", ["gzip", coding], MOST)


def test_more_than_three_codings_are_refused() -> None:
    with pytest.raises(UnknownCoding, match="at most 3"):
        inflate(b"x", ["gzip"] * 4, MOST)


def zeros() -> Iterator[bytes]:
    for _ in range(16):
        yield bytes(2**24)


def gzip_bomb() -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(map(packer.compress, zeros())) + packer.flush()


@pytest.mark.parametrize(
    ("codings", "make"),
    [
        (["gzip"], gzip_bomb),
        (["gzip", "gzip"], lambda: gzip.compress(gzip_bomb())),
        (["zstd"], lambda: zstd(bytes(2**28))),
        (["gzip", "zstd"], lambda: zstd(gzip_bomb())),
    ],
    ids=["gzip", "gzip twice", "zstd", "gzip and zstd"],
)
def test_a_bomb_costs_little_memory_and_time(codings: list[str], make: object) -> None:
    bomb = make()  # type: ignore[operator]
    most = 8 * 1024 * 1024
    tracemalloc.start()
    try:
        started = time.process_time()
        with pytest.raises(TooLarge):
            inflate(bomb, codings, most)
        assert time.process_time() - started < 1
        assert tracemalloc.get_traced_memory()[1] < 4 * most
    finally:
        tracemalloc.stop()
