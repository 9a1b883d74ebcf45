"""A note in the batch's folder of what it wrote as output: so that it knows it again, and may replace it."""

import hashlib
from typing import Any

import orjson

from workers.datasets import DatasetError
from workers.datasets.place import exists, open_input, writing
from workers.steps import places

_BLOCK = 2**20


def digest(work: dict[str, Any]) -> str:
    """Return what tells one work from another: of the same parts, in the same state, the same output is made."""
    return hashlib.sha256(orjson.dumps(work, option=orjson.OPT_SORT_KEYS)).hexdigest()


def check_newest(folder: str, attempt: int) -> None:
    """Raise DatasetError if a later attempt of the batch has written its output already."""
    written = _read(folder).get("attempt", 0)
    if written > attempt:
        raise DatasetError(f"attempt {written} of the batch has written its output; this is attempt {attempt}")


def write(folder: str, work: str, attempt: int, result: dict[str, Any]) -> None:
    """Note what is about to appear. It is written before: else a kill in between would leave a stranger's file.

    Raises DatasetError as `check_newest` does.
    """
    check_newest(folder, attempt)
    digests = [*_read(folder).get("digests", ()), result["sha256"]]
    text = orjson.dumps({"work": work, "attempt": attempt, "result": result, "digests": list(dict.fromkeys(digests))})
    with writing(places.note(folder), replace=True) as file:
        file.write(text)


def merged(folder: str, work: str, uri: str) -> dict[str, Any] | None:
    """Return the result of this very work (its `digest`) if its output is there already, whole."""
    noted = _read(folder)
    result: dict[str, Any] = noted.get("result", {})
    if noted.get("work") != work or result.get("uri") != uri or not exists(uri):
        return None
    return result if _sha256(uri) == result["sha256"] else None


def may_replace(folder: str, uri: str) -> bool:
    """Tell whether the output may take the place of what is there: its own folder is the batch's, else its own files.

    A batch that runs again by hand finds what it wrote before.
    """
    if uri.startswith(f"{folder}/"):
        return True
    digests = _read(folder).get("digests", ())
    return bool(digests) and exists(uri) and _sha256(uri) in digests


def _read(folder: str) -> dict[str, Any]:
    place = places.note(folder)
    if not exists(place):
        return {}
    with open_input(place) as file:
        noted = orjson.loads(file.read())
    if not isinstance(noted, dict):
        raise DatasetError(f"{place} is not what was written there")
    return noted


def _sha256(uri: str) -> str:
    found = hashlib.sha256()
    with open_input(uri) as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()
