"""What went wrong: the storage (it may answer later), its contents, or neither."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from workers.datasets import DatasetError, Unreachable

# What stays wrong, however often one tries; everything else of the storage may pass.
_WRONG = {
    errno.ENOENT: "there is no such file or folder",
    errno.EACCES: "there is no permission for it",
    errno.EPERM: "there is no permission for it",
    errno.EROFS: "the folder can only be read",
    errno.ENOTDIR: "a part of the path is a file, no folder",
    errno.EISDIR: "it is a folder, no file",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its links lead in a circle",
}
# The same of S3, as pyarrow's texts have them.
_WRONG_IN_S3 = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "NO_SUCH_KEY": "there is no such object",
    "RESOURCE_NOT_FOUND": "there is no such bucket or object",
    "ACCESS_DENIED": "there is no permission for it",
    "INVALID_ACCESS_KEY_ID": "the account for S3 isn't known there",
    "SIGNATURE_DOES_NOT_MATCH": "the account's key for S3 is wrong",
}
_S3 = "AWS Error"


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn each OSError into DatasetError or Unreachable, with the place's name."""
    try:
        yield
    except Unreachable:
        raise
    except OSError as error:
        raise _of_storage(uri, error) from error


@contextmanager
def understanding(uri: str, what: str) -> Iterator[None]:
    """Turn whatever pyarrow raises for bad data into DatasetError as well; `what` was expected there."""
    try:
        yield
    except (Unreachable, DatasetError, MemoryError):
        raise
    except OSError as error:
        # pyarrow raises the same type for both; only the system's and S3's own have one of these.
        if error.errno is not None or isinstance(error, FileNotFoundError) or _S3 in str(error):
            raise _of_storage(uri, error) from error
        raise _of_contents(uri, what, error) from error
    except (ValueError, NotImplementedError, KeyError, TypeError) as error:
        raise _of_contents(uri, what, error) from error


def _of_contents(uri: str, what: str, error: Exception) -> DatasetError:
    reason = str(error).partition("\n")[0][:200]
    return DatasetError(f"{uri} is not {what} that can be read: {reason}")


def _of_storage(uri: str, error: OSError) -> DatasetError | Unreachable:
    text = str(error)
    for code, reason in _WRONG_IN_S3.items():
        if _S3 in text and code in text:
            return DatasetError(f"{uri}: {reason}")
    number = errno.ENOENT if isinstance(error, FileNotFoundError) else error.errno
    if number in _WRONG:
        return DatasetError(f"{uri}: {_WRONG[number]}")
    return Unreachable(f"{uri}: the storage doesn't answer: {error.strerror or text[:300]}")
