"""Looking through a data set, file by file, and cutting it into ranges."""

import uuid
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from workers.datasets import (
    DatasetError,
    Fingerprint,
    Input,
    Kind,
    Plan,
    arrow_file,
    csv_file,
    csv_text,
    parquet_file,
    place,
)
from workers.datasets.columns import Constants, Wanted
from workers.datasets.ranges import Ranges
from workers.schema import Schema

ENDINGS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".csv.zst": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
# What writers of partitioned folders put in the place of a missing value.
_NULL = "__HIVE_DEFAULT_PARTITION__"
# The plan names each of them, and the portal reads it again and again while the run goes on.
MAX_FILES, MAX_COLUMNS = 25_000, 100_000


class _Looked(NamedTuple):
    """What one file has: its columns with those of its folders, and the types of the needed ones (CSV: none)."""

    uri: str
    columns: list[str]
    types: dict[str, pa.DataType]


class _Planner:
    """Adds files to the ranges, and what it had to write in another form to the files."""

    def __init__(self, data: Input, wanted: Wanted, chunk_rows: int, spool: str) -> None:
        self._data = data
        self._wanted = wanted
        # Each plan has copies of its own: replacing those of another one would change what was planned.
        self._spool = f"{spool.rstrip('/')}/{uuid.uuid4().hex}"
        self.ranges = Ranges(chunk_rows)
        self.copies: list[place.File] = []

    def add(self, kind: Kind, uri: str, constants: Constants) -> _Looked:
        if kind == "csv":
            return self._csv(uri, constants)
        if kind == "arrow":
            return self._arrow(uri, constants)
        columns, groups = parquet_file.describe(uri)
        looked = self._checked(uri, columns.names, columns, constants)
        self.ranges.add_groups(_part(uri, constants), groups)
        return looked

    def _arrow(self, uri: str, constants: Constants) -> _Looked:
        file_uri = uri
        if arrow_file.is_stream(uri):
            columns = arrow_file.stream_columns(uri)
            looked = self._checked(uri, columns.names, columns, constants)
            file_uri = self._copy_uri("arrow")
            arrow_file.write_file(uri, self._wanted.named(columns.names), file_uri)
            self.copies.append(place.file(file_uri))
            _, groups = arrow_file.describe(file_uri, self._wanted.named(columns.names))
        else:
            columns, groups = arrow_file.describe(uri, self._wanted.named(arrow_file.columns(uri).names))
            looked = self._checked(uri, columns.names, columns, constants)
        self.ranges.add_groups(_part(file_uri, constants), groups)
        return looked

    def _csv(self, uri: str, constants: Constants) -> _Looked:
        plain_uri = uri
        packed = csv_text.packing(uri)
        if packed or self._data.encoding != "utf-8":
            plain_uri = self._copy_uri("csv")
            csv_text.write_plain(uri, packed, self._data.encoding, plain_uri)
            self.copies.append(place.file(plain_uri))
        head = csv_file.head(plain_uri, self._data, self._wanted.schema.names)
        looked = self._checked(uri, head.names, None, constants)
        csv_file.add_ranges(_part(plain_uri, constants), self._data, head, self.ranges)
        return looked

    def _copy_uri(self, ending: str) -> str:
        return f"{self._spool}-{len(self.copies):06d}.{ending}"

    def _checked(self, uri: str, names: list[str], types: pa.Schema | None, constants: Constants) -> _Looked:
        columns = names + [name for name in constants if name not in names]
        if len(columns) > MAX_COLUMNS:
            raise DatasetError(f"{uri} has {len(columns):,} columns; at most {MAX_COLUMNS:,} are read")
        # Which no database stores, and which no name has that is right.
        for text in (*columns, *constants.values()):
            if text is not None and "\0" in text:
                raise DatasetError(f"{uri}: the name of a column, or of a folder, has a NUL in it: {text[:40]!r}")
        needed = self._wanted.named(columns)
        kinds = {f.name: f.type for f in types if f.name in needed} if types is not None else {}
        self._wanted.check(uri, columns, kinds)
        self._wanted.check_constants(uri, {name: text for name, text in constants.items() if name not in names})
        return _Looked(uri, columns, kinds)


def plan(data: Input, schema: Schema, keep: Sequence[str], chunk_rows: int, spool: str) -> Plan:
    """See `workers.datasets.plan`."""
    files = place.files(data.uri)
    if not files:
        raise DatasetError(f"{data.uri} has no files")
    if len(files) > MAX_FILES:
        raise DatasetError(f"{data.uri} has {len(files):,} files; at most {MAX_FILES:,} can be one data set")
    kind = format_of(data, files[0].uri)
    planner = _Planner(data, Wanted(schema, tuple(keep)), chunk_rows, spool)
    first: _Looked | None = None
    for file in files:
        if format_of(data, file.uri) != kind:
            raise DatasetError(f"{file.uri}: the first file of the folder is {kind}, this one isn't")
        looked = planner.add(kind, file.uri, partition(data.uri, file.uri))
        first = first or looked
        _check_alike(first, looked, kind)
        if place.file(file.uri) != file:
            raise DatasetError(f"{file.uri} changed while it was looked through")
    planner.ranges.close()
    if first is None or not planner.ranges.rows:
        raise DatasetError(f"{data.uri} has no rows")
    fingerprints: list[Fingerprint] = [[file.uri, file.size, file.version] for file in (*files, *planner.copies)]
    return Plan(planner.ranges.rows, first.columns, planner.ranges.made, fingerprints)


def format_of(data: Input, uri: str) -> Kind:
    """Return a file's format. Raises DatasetError for a name that doesn't say it."""
    if data.format != "auto":
        return data.format
    for ending, kind in ENDINGS.items():
        if uri.lower().endswith(ending):
            return kind
    raise DatasetError(f"{uri}: the name doesn't say the format; give it, or end the name in {', '.join(ENDINGS)}")


def partition(folder: str, uri: str) -> dict[str, str | None]:
    """Return the columns that the folders between the data set and a file of it give, as `name=value`."""
    names = uri.removeprefix(folder.rstrip("/")).strip("/").split("/")[:-1]
    pairs = (name.partition("=") for name in names if "=" in name)
    return {unquote(name): None if value == _NULL else unquote(value) for name, _, value in pairs}


def _part(uri: str, constants: Constants) -> dict[str, object]:
    return {"file": uri} | ({"constants": dict(constants)} if constants else {})


def _check_alike(first: _Looked, other: _Looked, kind: Kind) -> None:
    """Raise DatasetError when two files of a folder differ in their columns, or in the types of those needed."""
    if set(first.columns) != set(other.columns) or (kind == "csv" and first.columns != other.columns):
        differing = sorted(set(first.columns) ^ set(other.columns))
        names = ", ".join(map(repr, differing[:20]))
        what = f"not both have the columns {names}" if differing else "their order differs"
        raise DatasetError(f"{other.uri} has other columns than {first.uri}: {what}")
    for name, kind_here in other.types.items():
        if kind_here != first.types[name]:
            raise DatasetError(
                f"{other.uri}: the column '{name}' has the type {str(kind_here)[:100]}, "
                f"in {first.uri} it is {str(first.types[name])[:100]}"
            )
