"""CSV as a file of UTF-8 that can be read from anywhere: others are unpacked and decoded once, into a copy."""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import zstandard

from workers.datasets import DatasetError, place
from workers.datasets.troubles import reaching

STEP_BYTES = 1024 * 1024
# zstd takes no limit for what comes out: four bytes of what goes in can stand for 128 KiB.
ZSTD_STEP_BYTES = 2048
ZSTD_WINDOW_BYTES = 128 * 1024 * 1024
# A small file may stand for more than any disk holds. Up to so much is let through whatever it came from; beyond that
# it is more than so many times of what is packed, as no CSV with something in it is.
FREE_BYTES = 4 * 1024**3
MAX_TIMES = 200
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def packing(uri: str) -> str:
    """Return gzip or zstd for a file that starts like one, else an empty text."""
    with place.open_input(uri) as source:
        start = source.read(4)
    return "gzip" if start.startswith(_GZIP) else "zstd" if start == _ZSTD else ""


def write_plain(uri: str, packed: str, encoding: str, copy_uri: str) -> None:
    """Write a copy of the file that isn't packed, and UTF-8. Raises DatasetError, Unreachable."""
    with place.open_input(uri) as source, place.writing(copy_uri, replace=True) as sink:
        most, size = max(FREE_BYTES, MAX_TIMES * source.size()), 0
        for text in _decoded(_unpacked(uri, source, packed), uri, encoding):
            size += len(text)
            if size > most:
                raise DatasetError(f"{uri} has more than {most:,} bytes unpacked, {MAX_TIMES} times of its own size")
            sink.write(text)


def _unpacked(uri: str, source: BinaryIO, packed: str) -> Iterator[bytes]:
    with reaching(uri):
        try:
            if packed == "gzip":
                with gzip.GzipFile(fileobj=source) as file:
                    yield from _steps(file)
            elif packed == "zstd":
                yield from _zstd(uri, source)
            else:
                yield from _steps(source)
        except EOFError as error:
            raise DatasetError(f"{uri} ends in the middle: the gzip data aren't whole") from error
        except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            raise DatasetError(f"{uri} is not {packed} that can be read: {error}") from error


def _steps(source: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while step := source.read(STEP_BYTES):
        yield step


def _zstd(uri: str, source: BinaryIO) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    # A file may hold several, one after the other.
    decoder = decompressor.decompressobj()
    while block := source.read(STEP_BYTES):
        for start in range(0, len(block), ZSTD_STEP_BYTES):
            step = block[start : start + ZSTD_STEP_BYTES]
            while step:
                if decoder.eof:
                    decoder = decompressor.decompressobj()
                yield decoder.decompress(step)
                step = decoder.unused_data
    if not decoder.eof:
        raise DatasetError(f"{uri} ends in the middle: the zstd data aren't whole")


def _decoded(steps: Iterable[bytes], uri: str, encoding: str) -> Iterator[bytes]:
    if encoding == "utf-8":
        yield from steps
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    try:
        for step in steps:
            text = decoder.decode(step)
            lines += text.count("\n")
            yield text.encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise DatasetError(f"{uri} is not {encoding}, soon after line {lines:,}: {error}") from error
