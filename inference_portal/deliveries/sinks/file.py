"""The file with the sinks: a mapping of names to what they are. It is read once, when a process starts."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from django.conf import settings
from pydantic import TypeAdapter, ValidationError

from inference_portal.deliveries.sinks import AnySink
from workers.template.parts import SinkName
from workers.template.yaml_file import ManifestError, line_of, load

_FORM: TypeAdapter[dict[str, AnySink]] = TypeAdapter(dict[SinkName, AnySink])


def configured() -> Mapping[str, AnySink]:
    """Return this process's sinks by their names. Raises ManifestError, which ends the start (inference.E007)."""
    return _read(settings.SINKS_FILE)


def read_sinks(path: Path) -> dict[str, AnySink]:
    """Read and check the file; an empty one has none. Raises ManifestError with the line, the sink and the field."""
    node, data = load(path)
    try:
        return {} if data is None else _FORM.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        # Behind the sink's name pydantic puts its type, or that the name itself is wrong.
        name, *field = first["loc"] or ("sinks",)
        where = ".".join(str(part) for part in (name, *field[1:]))
        reason = f"{where}: {first['msg'].removeprefix('Value error, ')}"
        raise ManifestError(path, line_of(node, first["loc"]), reason) from error


@cache
def _read(path: str) -> dict[str, AnySink]:
    return read_sinks(Path(path)) if path else {}
