"""The input of a job in a file that a URI names: read while the job is accepted, as if the body had carried it.

So the job keeps what was read, and whatever becomes of the file later changes nothing.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from django.conf import settings

from inference_portal.accounts.callers import Caller
from inference_portal.batches.asked import check_readable
from inference_portal.errors import Problem
from inference_portal.jobs.pool import give_back
from inference_portal.limits import request_limits
from workers.datasets import DatasetError, Unreachable, place
from workers.datasets.troubles import reaching
from workers.formats import Decoded, Fault, Invalid, Malformed, TooLarge, Unavailable, inflate, media
from workers.model_store import Release

logger = logging.getLogger(__name__)

POINTER = "/input_uri"
# All files of one request together; a storage may answer more slowly than any client waits.
READ_SECONDS = 20.0
# In one process. A read that its request has given up ends when the storage lets it, and has its place until then.
READS_AT_ONCE = 16

# What the end of a file's name says.
TYPES = {
    ".json": media.JSON,
    ".csv": media.CSV,
    ".parquet": "application/vnd.apache.parquet",
    ".arrow": "application/vnd.apache.arrow.stream",
    ".arrows": "application/vnd.apache.arrow.stream",
    ".npy": "application/x-npy",
}
CODINGS = {".gz": "gzip", ".zst": "zstd"}
_places = threading.BoundedSemaphore(READS_AT_ONCE)


class Kind(NamedTuple):
    """How a file is read: what the headers Content-Type and Content-Encoding would say of it."""

    media_type: str
    codings: list[str]


class InputFiles:
    """The files that the jobs of one request name. Together they may take READ_SECONDS, and no file is begun once those
    before were as large as a body may be: what is read here is held in memory until all of them are stored.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._until = time.monotonic() + READ_SECONDS
        self._left: int = settings.MAX_REQUEST_BYTES

    def decode(self, release: Release, uri: Any) -> Decoded:
        """Read a file and decode it. Raises Invalid and Problem, which point to the field."""
        if not isinstance(uri, str):
            raise Invalid(Fault(POINTER, "expected text, such as store://uploads/…/rows.csv"))
        check_readable(uri, POINTER, self._caller)
        kind = kind_of(uri)
        # Of the connections to the database there are few, and a storage may be slow.
        give_back()
        try:
            return self._decode(release, uri, kind)
        except Unreachable as error:
            logger.warning("the file of a job can't be read: %s", error)
            raise _problem("unavailable", str(error)) from error
        except TooLarge as error:
            raise _problem("too-large", f"{uri}: {error}") from error
        except Unavailable as error:
            raise _problem("not-available", f"{uri}: {error}") from error
        except Malformed as error:
            raise Invalid(Fault(POINTER, f"{uri}, read as {kind.media_type}: {error}")) from error
        except DatasetError as error:
            raise Invalid(Fault(POINTER, str(error))) from error
        except Invalid as error:
            inside = (f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail for fault in error.faults)
            raise Invalid(*(Fault(POINTER, each) for each in inside)) from error

    def _decode(self, release: Release, uri: str, kind: Kind) -> Decoded:
        most = settings.MAX_REQUEST_BYTES
        if self._left <= 0:
            raise TooLarge(
                f"the files before it were as much as one request may have; send it in another one ({most:,})"
            )
        body = inflate.inflate(
            _within(self._until - time.monotonic(), uri, lambda: _read(uri, most)), kind.codings, most
        )
        decoded = media.decode(release, media.Sent(kind.media_type), body, request_limits())
        self._left -= max(len(body), decoded.matrix.nbytes)
        return decoded


def kind_of(uri: str) -> Kind:
    """Return how the file is read, by the end of its name. Raises Invalid."""
    name, codings = uri.lower(), []
    for ending, coding in CODINGS.items():
        if name.endswith(ending):
            name, codings = name.removesuffix(ending), [coding]
    for ending, media_type in TYPES.items():
        if name.endswith(ending):
            return Kind(media_type, codings)
    endings = f"{', '.join(TYPES)}, each perhaps with {' or '.join(CODINGS)} behind it"
    raise Invalid(Fault(POINTER, f"the end of its name doesn't say what it is; expected {endings}"))


def _read(uri: str, most: int) -> bytes:
    """Return all of a file, as it was at one moment. Raises TooLarge, DatasetError, Unreachable."""
    found = place.file(uri)
    if found.size > most:
        raise TooLarge(f"{found.size:,} bytes; one request may have {most:,}")
    with place.open_input(uri) as source, reaching(uri):
        body = bytes(source.read(found.size + 1))
    if len(body) != found.size or place.file(uri) != found:
        raise Unreachable(f"{uri} was changed while it was read")
    return body


def _within(seconds: float, uri: str, read: Callable[[], bytes]) -> bytes:
    """Return what `read` returns, in a thread that is left alone after that time. Raises Unreachable."""
    end = time.monotonic() + seconds
    places = _places
    if not places.acquire(timeout=max(0.0, seconds)):
        raise Unreachable(f"{uri}: the storage is too slow, {READS_AT_ONCE} files are being read already")
    done: Future[bytes] = Future()

    def work() -> None:
        try:
            done.set_result(read())
        except BaseException as error:
            done.set_exception(error)
        finally:
            places.release()

    threading.Thread(target=work, name="input-file", daemon=True).start()
    try:
        return done.result(max(0.0, end - time.monotonic()))
    except TimeoutError:
        raise Unreachable(f"{uri}: the storage didn't answer within {READ_SECONDS:g} seconds") from None


def _problem(slug: str, detail: str) -> Problem:
    return Problem(slug, f"{POINTER}: {detail}", faults=(Fault(POINTER, detail),))
