"""Tries the decoders on broken bodies: `python -m tests.fuzz.decoders --inputs 200000 --format csv|all --seed N`.

Each input follows from seed, format and number, so that a finding is repeated with `--only NUMBER`. The decoders run in
a child process whose address space is limited; it says on a shared page which input it is at. A finding is an exception
that a decoder may not raise, a wrong result, more than two seconds, too much memory, or the end of the child. The input
is saved, and the exit status is 1.
"""

import argparse
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.fuzz.corpus import CORPORA, corpus, made_up
from tests.unit.formats.bodies import LIMITS, MAX_ROWS, Body
from workers.formats import Decoded, Invalid, Malformed, TooLarge, Unavailable, UnknownCoding, UnknownType, media
from workers.formats.inflate import inflate
from workers.schema import MAX_FAULTS, Schema

MAX_BYTES = 256 * 1024
MAX_INFLATED = 1024 * 1024
SECONDS = 2.0
# What an input may take on top of what the process has: many times the size of any input here.
MEMORY = 512 * 1024 * 1024
ALLOWED = (Malformed, TooLarge, Invalid, Unavailable, UnknownType, UnknownCoding)
# What numbers, sizes, quotes and beginnings of files look like.
TOKENS = (
    *(b"", b"\0", b"\1", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"),
    *(b"\xfe\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x08", b"-1", b"1e999", b"NaN", b"null", b"true", b"9" * 400),
    *(b"[", b"]", b"{", b"}", b"(", b'"', b",", b"\n", b"\r", b"[" * 2000, b"red", b"a,", b"'|O'", b"\\ud800"),
    *(b"\xed\xa0\x80", b"\xef\xbb\xbf", b"PAR1", b"\x93NUMPY", b"\x28\xb5\x2f\xfd", b"\x1f\x8b"),
)


def main() -> int:
    """Run as many inputs as asked for. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, help="inputs for each format")
    parser.add_argument("--format", default="all", choices=["all", *CORPORA])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this one input, in this process")
    parser.add_argument("--save", type=Path, default=Path(tempfile.gettempdir()), help="folder for the inputs found")
    arguments = parser.parse_args()
    kinds = list(CORPORA) if arguments.format == "all" else [arguments.format]
    if arguments.only is not None:
        for kind in kinds:
            print(try_one(next(inputs(kind, arguments.seed, arguments.only, arguments.only + 1))))
        return 0
    findings = 0
    for kind in kinds:
        started = time.monotonic()
        found = fuzz(kind, arguments.seed, arguments.inputs)
        for number, reason in found:
            path = arguments.save / f"fuzz-{kind}-{arguments.seed}-{number}"
            path.write_bytes(next(inputs(kind, arguments.seed, number, number + 1)).data)
            print(
                f"{kind} {number}: {reason}\n  {path}; again: --format {kind} --seed {arguments.seed} --only {number}"
            )
        findings += len(found)
        print(
            f"{kind}: {arguments.inputs:,} inputs, {len(found)} findings, {time.monotonic() - started:.1f} s",
            flush=True,
        )
    return 1 if findings else 0


def fuzz(kind: str, seed: int, count: int) -> list[tuple[int, str]]:
    """Run inputs 0 to `count` of a format. Returns the number of each finding and what was wrong."""
    found: list[tuple[int, str]] = []
    with mmap.mmap(-1, 16) as page:
        first = 0
        while first < count:
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(reading)
                _child(kind, seed, first, count, page, writing)
            os.close(writing)
            reason = _watch(child, page)
            with os.fdopen(reading) as reports:
                found += [(number, text) for number, text in map(json.loads, reports)]
            if reason is None:
                return found
            (number,) = struct.unpack_from("<q", page)
            found.append((number, reason))
            first = number + 1
    return found


def inputs(kind: str, seed: int, first: int, last: int) -> Iterator[Body]:
    """Yield the inputs with these numbers."""
    known = corpus(kind)
    for number in range(first, last):
        chance = random.Random(f"{seed} {kind} {number}")
        made = made_up(kind, chance) if chance.random() < 0.4 else None
        body = made or chance.choice(known)
        data = body.data
        # One that was made up is left alone as a rule: most changes of bytes leave nothing that can be read.
        for _ in range(chance.choice((1, 1, 1, 2, 4, 8) if made is None else (0, 0, 0, 0, 1, 2))):
            data = _mutated(data, chance.choice(known).data, chance)
        yield body._replace(data=data[:MAX_BYTES])


def try_one(body: Body) -> str | None:
    """Decode one input. Returns what is wrong with how that went."""
    # Of the processor: what others do on this machine is not the decoder's doing. `_watch` looks at the clock.
    started = time.process_time()
    try:
        if body.codings:
            inflate(body.data, list(body.codings), MAX_INFLATED)
        else:
            _check(media.decode(body.release, body.sent, body.data, LIMITS), body.release.schema)
    except ALLOWED as error:
        if isinstance(error.__cause__, MemoryError):
            return f"allocates: {error}"
        if isinstance(error, Invalid):
            _check_faults(error)
    except BaseException:
        return traceback.format_exc()
    seconds = time.process_time() - started
    return f"took {seconds:.1f} s" if seconds > SECONDS else None


def _check(decoded: Decoded, schema: Schema) -> None:
    matrix = decoded.matrix
    assert matrix.dtype == np.dtype("<f4") and matrix.flags.c_contiguous
    assert 1 <= len(matrix) <= MAX_ROWS and matrix.shape[1] == len(schema.names)
    assert not schema.faults(matrix)
    json.dumps(decoded.reply)


def _check_faults(error: Invalid) -> None:
    assert 1 <= len(error.faults) <= MAX_FAULTS
    for fault in error.faults:
        assert fault.pointer == "" or fault.pointer.startswith("/"), fault
        assert len(fault.detail) < 10_000, fault.detail[:200]


def _mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Return the body with one thing changed."""
    size = len(data)
    at = chance.randrange(size + 1)
    match chance.randrange(9):
        case 0 if size:
            at = min(at, size - 1)
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            return data[:at] + data[at + chance.randint(1, 16) :]
        case 4:
            token = chance.choice(TOKENS)
            return data[:at] + token + data[at:]
        case 5:
            token = chance.choice(TOKENS)
            return data[:at] + token + data[at + len(token) :]
        case 6:
            return data[:at] + other[chance.randrange(len(other)) :]
        case 7:
            begin = chance.randrange(size + 1)
            part = data[begin : begin + chance.randint(1, 64)]
            return data[:at] + part * chance.choice((1, 1, 2, 50)) + data[at:]
        case _:
            number = struct.pack(
                chance.choice(("<i", "<q")), chance.choice((0, 1, -1, 2**31 - 1, -(2**31), 255, 65536))
            )
            at -= at % 4
            return data[:at] + number + data[at + len(number) :]


def _child(kind: str, seed: int, first: int, last: int, page: mmap.mmap, writing: int) -> None:
    """Run inputs in a limited process, say which on the page, and report findings. Doesn't return."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")
    with os.fdopen(writing, "w") as reports:
        for number, body in enumerate(inputs(kind, seed, first, last), first):
            # Not pack_into, which writes zeros first.
            page[:16] = struct.pack("<qd", number, time.monotonic())
            reason = try_one(body)
            if reason is not None:
                reports.write(json.dumps((number, reason)) + "\n")
                reports.flush()
    os._exit(0)


def _watch(child: int, page: mmap.mmap) -> str | None:
    """Wait for the child's end, and end it when it hangs. Returns what was wrong."""
    page[8:16] = struct.pack("<d", time.monotonic())
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return None if status == 0 else f"the process ended with {os.waitstatus_to_exitcode(status)}"
        (started,) = struct.unpack_from("<d", page, 8)
        if time.monotonic() - started > 10 * SECONDS:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hangs"
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
