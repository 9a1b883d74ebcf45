"""Golden samples: inputs with the outputs that are expected of them, and how what was got differs."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from workers.formats import Decoded, Invalid, Limits, Malformed, json_instances
from workers.model_store import Release

# Of a golden file without a tolerance of its own, whose manifest names none either.
ABSOLUTE = 1e-5
MAX_DIFFERENCES = 20
MAX_ROWS = 1_000
# As `str` of a Difference has it, in a traceback.
_DIFFERENCE = re.compile(
    r"(?:^|SamplesDiffer: golden samples differ: )row (\d+), (.+?): expected (.+), got (.+)$", re.MULTILINE
)
_LIMITS = Limits(rows=MAX_ROWS, columns=10_000)


class GoldenError(ValueError):
    """A golden file that can't be read, or doesn't fit its manifest."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that isn't the expected one."""

    row: int
    output: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        expected, got = (orjson.dumps(value).decode() for value in (self.expected, self.got))
        return f"row {self.row}, {self.output}: expected {expected}, got {got}"


class SamplesDiffer(ValueError):
    """A model that doesn't give its golden samples. The first line of the text is for everybody, all are for operators
    (`differences_in` reads them back from a worker's traceback)."""

    def __init__(self, differences: list[Difference]) -> None:
        super().__init__("golden samples differ: " + "\n".join(map(str, differences)))


def differences_in(text: str) -> list[Difference]:
    """Return the differences that a traceback names."""
    return [
        Difference(int(row), output, orjson.loads(expected), orjson.loads(got))
        for row, output, expected, got in _DIFFERENCE.findall(text)
    ]


@dataclass(frozen=True, slots=True)
class Samples:
    """The inputs as a client sends them (`rows`) and as a job holds them (`decoded`); `outputs` by name, a list a row.

    A number may be off by `absolute + relative * |expected|`; a text is equal or not.
    """

    rows: list[Any]
    decoded: Decoded
    outputs: dict[str, list[Any]]
    absolute: float
    relative: float

    def differences(self, got: dict[str, Any]) -> list[Difference]:
        """Return where outputs (arrays or lists by name, a row first) differ from the expected ones, the first few."""
        found: list[Difference] = []
        for name, expected in self.outputs.items():
            if name not in got or len(got[name]) != len(expected):
                found.append(Difference(0, name, f"{len(expected)} rows", f"{len(got.get(name, ()))} rows"))
                continue
            found += [
                Difference(row, name, wanted, _plain(actual))
                for row, (wanted, actual) in enumerate(zip(expected, got[name], strict=True))
                if not self._equal(wanted, actual)
            ]
        return sorted(found, key=lambda each: each.row)[:MAX_DIFFERENCES]

    def _equal(self, wanted: Any, actual: Any) -> bool:
        expected, got = np.asarray(wanted), np.asarray(actual)
        if expected.shape != got.shape:
            return False
        if expected.dtype.kind not in "fiu":
            return bool((expected == got).all())
        with np.errstate(invalid="ignore"):
            return bool(
                (np.abs(got.astype(np.float64) - expected) <= self.absolute + self.relative * np.abs(expected)).all()
            )


def read_samples(release: Release) -> Samples | None:
    """Return the golden samples of a release; None if its manifest names none. Raises GoldenError."""
    golden = release.manifest.golden
    if golden is None:
        return None
    path = release.folder / golden.file
    try:
        data = orjson.loads(path.read_bytes())
        decoded = json_instances.decode(release, data["inputs"], _LIMITS, key="inputs")
        # Template 1 had the model's own numbers, which are the first output of every kind that it had.
        outputs = data["outputs"] if "outputs" in data else {release.manifest.output.tensors[0].name: _first(data)}
        absolute = golden.absolute if golden.absolute is not None else float(data.get("tolerance", ABSOLUTE))
    except OSError as error:
        raise GoldenError(f"{golden.file}: {error.strerror}") from error
    except (Invalid, Malformed) as error:
        raise GoldenError(f"{golden.file}: {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise GoldenError(f"{golden.file}: expected inputs and outputs: {error!r}") from error
    known = {tensor.name for tensor in release.manifest.output.tensors}
    if not isinstance(outputs, dict) or not outputs or not outputs.keys() <= known:
        raise GoldenError(f"{golden.file}: outputs are some of {', '.join(sorted(known))}, each with a list")
    for name, values in outputs.items():
        if not isinstance(values, list) or len(values) != len(decoded.matrix):
            raise GoldenError(f"{golden.file}: {name} has a value for each of {len(decoded.matrix)} inputs")
    return Samples(data["inputs"], decoded, outputs, absolute, golden.relative)


def _first(data: dict[str, Any]) -> list[Any]:
    return [row[0] if len(row) == 1 else row for row in data["raw"]]


def _plain(value: Any) -> Any:
    """Return a value of an array as JSON has it."""
    plain: npt.NDArray[Any] = np.asarray(value)
    return plain.tolist()
