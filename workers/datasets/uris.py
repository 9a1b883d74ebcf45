"""What a URI means, and whether it may be used. Nothing is read here.

A URI is taken literally: `%20` is three characters. Three kinds:

- `store://…` is the system's own storage, in DATA_DIR: a folder, or `s3://bucket/prefix`.
- `file:///…` is a file or folder inside of the folders that DATA_FOLDERS lists.
- `s3://bucket/key` is an object, or all objects below a prefix, in what DATA_BUCKETS lists.
"""

import os
import re
from dataclasses import dataclass
from typing import Literal

from workers import config
from workers.datasets import DatasetError

MAX_LENGTH = 2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a URI leads: the real path of a local file, or `bucket/key`."""

    system: Literal["local", "s3"]
    path: str


def locate(uri: str) -> Location:
    """Return where a URI leads. Raises DatasetError for one that is none, or that may not be used."""
    if len(uri) > MAX_LENGTH:
        raise DatasetError(f"the URI has {len(uri):,} characters; at most {MAX_LENGTH:,} are read")
    if _CONTROL.search(uri) or not _is_unicode(uri):
        raise DatasetError(f"{uri!r}: a URI has no control characters and is valid Unicode")
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in _KINDS:
        raise DatasetError(f"'{uri}' is no URI of a data set; expected store://…, file:///… or s3://…")
    if scheme == "file":
        if not rest.startswith("/"):
            raise DatasetError(f"{uri}: expected an absolute path, as in file:///data/rows.parquet")
        rest = rest[1:]
    # A folder may be written with a slash at its end.
    parts = rest.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise DatasetError(f"{uri}: no part of a path may be empty, '.' or '..'")
    return _KINDS[scheme](uri, parts)


def _store(uri: str, parts: list[str]) -> Location:
    root = config.data_dir()
    if root.startswith("s3://"):
        return Location("s3", "/".join([root.removeprefix("s3://").strip("/"), *parts]))
    path = os.path.realpath(os.path.join(root, *parts))
    if not _is_in(path, os.path.realpath(root)):
        raise DatasetError(f"{uri} leads out of the storage")
    return Location("local", path)


def _file(uri: str, parts: list[str]) -> Location:
    # Links are followed first: what counts is where the file really is.
    path = os.path.realpath("/" + "/".join(parts))
    if not any(_is_in(path, os.path.realpath(folder)) for folder in config.data_folders()):
        raise DatasetError(f"{uri} is in none of the folders that may be used (DATA_FOLDERS)")
    root = config.data_dir()
    if not root.startswith("s3://") and _is_in(path, os.path.realpath(root)):
        raise _of_the_storage(uri)
    return Location("local", path)


def _s3(uri: str, parts: list[str]) -> Location:
    path = "/".join(parts)
    if not any(_is_in(path, bucket) for bucket in config.data_buckets()):
        raise DatasetError(f"{uri} is in none of the buckets that may be used (DATA_BUCKETS)")
    root = config.data_dir()
    if root.startswith("s3://") and _is_in(path, root.removeprefix("s3://").strip("/")):
        raise _of_the_storage(uri)
    return Location("s3", path)


def _of_the_storage(uri: str) -> DatasetError:
    """Return what is said where DATA_DIR lies in what all teams may use: there each sees its own through store://."""
    return DatasetError(f"{uri} lies in the storage of this system, which is for store://… only")


_KINDS = {"store": _store, "file": _file, "s3": _s3}


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
