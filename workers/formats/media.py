"""Which module reads and which writes a media type: one table. A new format is one file and one line here."""

import re
from importlib import import_module
from typing import Any, NamedTuple

from workers.formats import (
    Decoded,
    Fault,
    Invalid,
    Limits,
    Malformed,
    UnknownType,
    csv_rows,
    json_body,
    json_instances,
    json_v2,
    shown,
    v2_binary,
)
from workers.formats.answer import Answer
from workers.model_store import Release

JSON = "application/json"
BINARY = "application/octet-stream"
CSV = "text/csv"


class Table(NamedTuple):
    """A format with named columns or rows: its name in `Decoded.format`, and the module that reads and writes it."""

    name: str
    module: str


# The modules are imported when first needed: pyarrow takes 40 MB.
TABLES = {
    CSV: Table("csv", "workers.formats.csv_rows"),
    "application/vnd.apache.parquet": Table("parquet", "workers.formats.parquet"),
    "application/vnd.apache.arrow.stream": Table("arrow", "workers.formats.arrow_stream"),
    "application/x-npy": Table("npy", "workers.formats.npy"),
}
# The types of answers, the preferred one of those that somebody accepts alike first.
ANSWERS = (JSON, BINARY, *TABLES)


class Sent(NamedTuple):
    """What says how to read a body: the headers Content-Type ("" for none) and Inference-Header-Content-Length."""

    content_type: str
    header_length: str | None = None


class Reading(NamedTuple):
    """How a body is read: what its headers say, however they are spelled.

    `media_type` is JSON or one of TABLES; `header_length` that of the JSON before binary tensors, None for JSON alone.
    """

    media_type: str
    header_length: int | None


def reading(sent: Sent) -> Reading:
    """Return how a body with these headers is read. Raises UnknownType, Malformed."""
    media_type, parameters = _parse(sent.content_type)
    if media_type in ("", JSON, BINARY):
        return Reading(JSON, _length(sent.header_length))
    if media_type not in TABLES:
        raise UnknownType(f"'{shown(media_type)}' isn't read here; send one of {', '.join(ANSWERS)}")
    if sent.header_length is not None:
        raise Malformed(f"{v2_binary.HEADER} goes with V2 tensors only, not with {media_type}")
    if media_type == CSV:
        csv_rows.check_parameters(parameters)
    return Reading(media_type, None)


def decode(release: Release, sent: Sent, body: bytes, limits: Limits) -> Decoded:
    """Decode a body as its headers say. Raises UnknownType, Malformed, Invalid, TooLarge, Unavailable."""
    media_type, header_length = reading(sent)
    if media_type == JSON:
        return _decode_json(release, header_length, body, limits)
    decoded: Decoded = import_module(TABLES[media_type].module).decode(release, body, limits)
    return decoded


def default_type(reply: dict[str, Any]) -> str:
    """Return the media type that answers a request whose `Decoded.reply` was kept, if any is accepted."""
    if reply["format"] == json_v2.NAME:
        return BINARY if reply.get("binary") else JSON
    return next((media_type for media_type, table in TABLES.items() if table.name == reply["format"]), JSON)


def encode(media_type: str, answer: Answer) -> tuple[bytes, str, dict[str, str]]:
    """Return body, Content-Type and further headers of an answer in one of ANSWERS.

    JSON is V2 for requests in V2, else plain predictions.
    """
    if media_type == BINARY:
        head = {"model_name": answer.model, "model_version": answer.version, "id": answer.id}
        tensors = answer.tensors
        names = answer.binary or tuple(tensor["name"] for tensor in tensors)
        body, length = v2_binary.encode(head, tensors, names)
        return body, BINARY, {v2_binary.HEADER: str(length)}
    if media_type == JSON:
        if answer.format == json_v2.NAME:
            return json_v2.encode(answer.model, answer.version, answer.id, answer.outputs), JSON, {}
        return json_instances.encode(answer.outputs), JSON, {}
    content_type = f"{CSV}; charset=utf-8" if media_type == CSV else media_type
    return import_module(TABLES[media_type].module).encode(answer.tensors), content_type, {}


def _parse(content_type: str) -> tuple[str, dict[str, str]]:
    """Return the media type in lower case, and its parameters with their names in lower case."""
    media_type, *rest = content_type.split(";")
    pairs = (part.partition("=") for part in rest)
    parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
    return media_type.strip().lower(), parameters


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise Malformed(f"{v2_binary.HEADER} isn't a number")
    return int(text)


def _decode_json(release: Release, header_length: int | None, body: bytes, limits: Limits) -> Decoded:
    if header_length is None:
        return json_body.decode(release, body, limits)
    text, raw = v2_binary.split(body, header_length)
    data = json_body.read_object(text)
    if "inputs" not in data:
        raise Invalid(Fault("", f"expected 'inputs' (V2 tensors), as {v2_binary.HEADER} is given"))
    return json_v2.decode(release, data, limits, raw)
