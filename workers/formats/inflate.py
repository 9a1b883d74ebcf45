"""Undoing Content-Encoding, with the size limited while reading: a small body may stand for terabytes.

zstd by its own package: pyarrow 26 loses memory with each broken body that its CompressedInputStream reads.
"""

import zlib
from collections.abc import Iterable, Iterator

import zstandard

from workers.formats import Malformed, TooLarge, UnknownCoding

# What comes out of one step of zlib at most.
STEP_BYTES = 64 * 1024
# zstd takes no such limit: what goes in at once, four bytes of which can stand for 128 KiB.
ZSTD_STEP_BYTES = 512
# What RFC 9659 allows in HTTP.
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
MAX_CODINGS = 3
_RAW_DEFLATE, _ZLIB, _GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS, zlib.MAX_WBITS | 16


def inflate(body: bytes | Iterable[bytes], encodings: list[str], most: int) -> bytes:
    """Return the body without its codings, which are listed in the order in which they were applied.

    Raises UnknownCoding for an unknown coding, Malformed for data that end too early or go on after their end, TooLarge
    once there are more than `most` bytes before or after any of the steps.
    """
    codings = [coding for name in encodings if (coding := name.strip().lower()) not in ("", "identity")]
    if unknown := [coding for coding in codings if coding not in _DECODERS]:
        raise UnknownCoding(f"the content coding '{unknown[0]}' isn't read here; send {', '.join(NAMES)} or none")
    if len(codings) > MAX_CODINGS:
        raise UnknownCoding(f"{len(codings)} content codings, one on top of the other; at most {MAX_CODINGS} are read")
    parts: Iterable[bytes] = [body] if isinstance(body, bytes) else body
    parts = _limited(parts, most)
    for coding in reversed(codings):
        parts = _limited(_DECODERS[coding](parts), most)
    return b"".join(parts)


def _limited(parts: Iterable[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for part in parts:
        size += len(part)
        if size > most:
            raise TooLarge(f"packed or unpacked, the body has more than the {most:,} bytes that one request may have")
        yield part


def _gzip(parts: Iterable[bytes]) -> Iterator[bytes]:
    return _zlib(iter(parts), _GZIP, "gzip")


def _deflate(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Undo deflate, which is zlib's format by the standard; some clients send it without zlib's header."""
    rest = iter(parts)
    head = b""
    while len(head) < 2 and (part := next(rest, None)) is not None:
        head += part
    is_zlib = len(head) >= 2 and head[0] & 0x0F == 8 and int.from_bytes(head[:2]) % 31 == 0
    yield from _zlib(_chained(head, rest), _ZLIB if is_zlib else _RAW_DEFLATE, "deflate")


def _chained(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def _zlib(parts: Iterator[bytes], window: int, name: str) -> Iterator[bytes]:
    decoder = zlib.decompressobj(window)
    for part in parts:
        if decoder.eof and part:
            raise Malformed(f"the {name} body goes on after its end")
        while not decoder.eof:
            try:
                out = decoder.decompress(part, STEP_BYTES)
            except zlib.error as error:
                raise Malformed(f"the body is not {name}: {error}") from error
            yield out
            part = decoder.unconsumed_tail
            if not part and len(out) < STEP_BYTES:
                break
        if decoder.unused_data:
            raise Malformed(f"the {name} body goes on after its end")
    if not decoder.eof:
        raise Malformed(f"the {name} body ends too early")


def _zstd(parts: Iterable[bytes]) -> Iterator[bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
    for part in parts:
        for start in range(0, len(part), ZSTD_STEP_BYTES):
            if decoder.eof:
                raise Malformed("the zstd body goes on after its end")
            try:
                yield decoder.decompress(part[start : start + ZSTD_STEP_BYTES])
            except zstandard.ZstdError as error:
                raise Malformed(f"the body is not zstd: {error}") from error
            if decoder.unused_data:
                raise Malformed("the zstd body goes on after its end")
    if not decoder.eof:
        raise Malformed("the zstd body ends too early")


_DECODERS = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "zstd": _zstd}
NAMES = ("gzip", "deflate", "zstd")
