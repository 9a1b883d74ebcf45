"""Typed access to a model file's document: every part is what it should be, or the error says where it isn't."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_WHOLE = re.compile(r"-?[0-9]{1,10}")
MOST = 2**31 - 1


class ModelFileError(ValueError):
    """A model file that isn't served: says what is wrong with it, and what to do where that is known."""


@dataclass(frozen=True, slots=True)
class Node:
    """An object of the document, and the path to it for errors."""

    data: dict[str, Any]
    path: str = ""

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def node(self, key: str) -> "Node":
        """Return an object in it. Raises ModelFileError, as all below do."""
        return Node(self._get(key, dict, "an object"), f"{self.path}{key}.")

    def nodes(self, key: str) -> list["Node"]:
        """Return a list of objects."""
        found = self._get(key, list, "a list")
        if not all(isinstance(each, dict) for each in found):
            raise self.error(key, "expected objects")
        return [Node(each, f"{self.path}{key}[{i}].") for i, each in enumerate(found)]

    def text(self, key: str) -> str:
        """Return a text."""
        return str(self._get(key, str, "a text"))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; empty if it isn't there."""
        if key not in self.data:
            return ()
        found = self.data[key]
        # What is empty has no type of its own.
        if len(found) if isinstance(found, np.ndarray) else not isinstance(found, list):
            raise self.error(key, "expected a list of texts")
        if not all(isinstance(each, str) for each in found):
            raise self.error(key, "expected texts")
        return tuple(found)

    def count(self, key: str, low: int, high: int = MOST, default: int | None = None) -> int:
        """Return a whole number, which the file has as a text, from `low` to `high`."""
        if default is not None and key not in self.data:
            return default
        text = self._get(key, str, "a number as text")
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise self.error(key, f"expected a whole number from {low} to {high}, got {text[:40]!r}")
        return int(text)

    def whole(self, key: str, length: int | None = None) -> npt.NDArray[np.int64]:
        """Return a list of whole numbers."""
        array = self._numbers(key, length)
        if array.dtype.kind not in "iu":
            raise self.error(key, "expected whole numbers")
        return array.astype(np.int64)

    def floats(self, key: str, length: int | None = None, *, finite: bool = True) -> npt.NDArray[np.float32]:
        """Return a list of numbers as float32, all finite unless told otherwise."""
        with np.errstate(over="ignore", invalid="ignore"):
            array = self._numbers(key, length).astype(np.float32)
        if finite and not np.isfinite(array).all():
            raise self.error(key, f"number {int(np.argmin(np.isfinite(array)))} is not finite")
        return array

    def error(self, key: str, reason: str) -> ModelFileError:
        """Return the error for a part of this object."""
        return ModelFileError(f"{self.path}{key}: {reason}")

    def _numbers(self, key: str, length: int | None) -> npt.NDArray[Any]:
        found = self.data.get(key)
        if isinstance(found, list) and set(map(type, found)) <= {int, float}:
            try:
                found = np.array(found, dtype=None if found else np.int64)
            except OverflowError as error:
                raise self.error(key, "a number is too large") from error
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuf":
            raise self.error(key, "missing" if key not in self.data else "expected a list of numbers")
        if length is not None and len(found) != length:
            raise self.error(key, f"expected {length:,} numbers, got {len(found):,}")
        return found

    def _get(self, key: str, kind: type, what: str) -> Any:
        if key not in self.data:
            raise self.error(key, "missing")
        if not isinstance(self.data[key], kind):
            raise self.error(key, f"expected {what}")
        return self.data[key]
