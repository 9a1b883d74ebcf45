"""A model in a container of its own: rows go there as JSON, and what it answers is checked against the manifest."""

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import numpy.typing as npt
import orjson

from workers import container_http, slots
from workers.breaker import Breaker
from workers.calls import CALL, Call
from workers.container_http import BUSY, ContainerError, ContainerUnavailable, Reply
from workers.model_store import Release
from workers.preprocessing import BadData
from workers.runtimes import Matrix
from workers.template.columns import DATATYPES
from workers.template.output import Tensor

ASYNC = "respond-async"
# With these a container says that the rows are wrong.
_REFUSED = frozenset({400, 413, 422})
HEALTH_SECONDS = 3.0


class ContainerModel:
    """Asks the container; breakers and places are this process's, and all processes' of this worker."""

    device = ""
    libraries = f"httpx {httpx.__version__}, numpy {np.__version__}"

    def __init__(self, release: Release) -> None:
        container = release.manifest.container
        if container is None:
            raise ValueError("the manifest has no container")
        self._release = release
        self._container = container
        self._tensors = release.manifest.output.tensors
        self._breakers = {url: Breaker() for url in container.urls}
        self._turn = itertools.count()

    def outputs(self, matrix: Matrix) -> dict[str, Any] | None:
        """Return an array for each output, a row first; None when the container goes on by itself (`respond-async`).

        Raises BadData when the container refuses the rows, ContainerUnavailable, ContainerError.
        """
        parts = []
        goes_on = False
        call = CALL.get()
        for start in range(0, len(matrix), self._container.max_rows):
            rows = matrix[start : start + self._container.max_rows]
            reply = self._ask(self._request(rows, call), call)
            if ASYNC in call.prefer and (reply.status != 200 or not reply.body):
                goes_on = True
                continue
            if reply.status != 200:
                raise ContainerError(f"the container answered {reply.status}, expected 200: {reply.excerpt}")
            parts.append(self._arrays(reply.body, len(rows)))
        if goes_on:
            # Also of some of the rows only: the answers to the others alone would be taken for all.
            return None
        return {tensor.name: np.concatenate([part[tensor.name] for part in parts]) for tensor in self._tensors}

    def check_health(self) -> None:
        """Raise ContainerUnavailable unless one of the addresses is well, as far as there is a path to ask."""
        path = self._container.health
        if path is None or any(self._is_well(url, path) for url in self._container.urls):
            return
        raise ContainerUnavailable(f"no address answers {path} with 200")

    def _ask(self, body: bytes, call: Call) -> Reply:
        """Return an answer of 2xx from one of the addresses. A request goes to a second one only if the first has not
        seen it."""
        end = time.monotonic() + self._container.timeout_seconds
        headers = self._container.headers | {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {"X-Inference-Id": call.id, "X-Inference-Attempt": str(call.attempt)} if call.id else {}
        headers |= {"Prefer": call.prefer} if call.prefer else {}
        manifest = self._release.manifest
        name = f"{manifest.model}.{manifest.version}.{manifest.sha256}"
        try:
            with slots.taken(name, self._container.max_concurrency, self._container.timeout_seconds):
                reply = self._first_answer(body, headers, end)
        except slots.NoSlot as error:
            raise ContainerUnavailable(str(error), sent=False) from error
        if reply.status in _REFUSED:
            raise BadData(f"the container refused it with {reply.status}: {reply.excerpt}")
        if not 200 <= reply.status < 300:
            raise ContainerError(f"the container answered {reply.status}: {reply.excerpt}")
        return reply

    def _first_answer(self, body: bytes, headers: dict[str, str], end: float) -> Reply:
        reasons = []
        for url in self._in_turn():
            breaker = self._breakers[url]
            left = end - time.monotonic()
            if left <= 0:
                break
            if not breaker.allows():
                wait = math.ceil(breaker.seconds)
                reasons.append(f"{urlsplit(url).netloc} failed several times, it is asked again in {wait} s")
                continue
            health = self._container.health
            if breaker.failing and health is not None and not self._is_well(url, health):
                breaker.failed()
                reasons.append(f"{urlsplit(url).netloc} isn't well yet")
                continue
            try:
                left = max(0.001, end - time.monotonic())
                reply = container_http.post(url, body, headers, seconds=left, connect=self._container.connect_seconds)
            except ContainerUnavailable as error:
                breaker.failed()
                if error.sent:
                    raise
                reasons.append(str(error))
                continue
            if reply.status in BUSY:
                breaker.failed()
                raise ContainerUnavailable(f"{urlsplit(url).netloc} answered {reply.status}: {reply.excerpt}")
            breaker.succeeded()
            return reply
        raise ContainerUnavailable("; ".join(reasons) or "no time was left for it", sent=False)

    def _in_turn(self) -> Iterator[str]:
        urls = self._container.urls
        first = next(self._turn) % len(urls)
        return itertools.chain(urls[first:], urls[:first])

    def _is_well(self, url: str, path: str) -> bool:
        return container_http.is_well(url, path, self._container.headers, seconds=HEALTH_SECONDS)

    def _request(self, rows: Matrix, call: Call) -> bytes:
        manifest = self._release.manifest
        if self._container.protocol == "json":
            names = self._release.schema.names
            cells = (self._release.schema.cells(row) for row in rows)
            data: dict[str, Any] = {"instances": [dict(zip(names, row, strict=True)) for row in cells]}
        else:
            data = {"id": call.id} if call.id else {}
            data["inputs"] = [
                {
                    "name": column.name,
                    "datatype": DATATYPES[column.type],
                    "shape": [len(rows)],
                    "data": _sent(rows[:, i], column.type, column.categories),
                }
                for i, column in enumerate(manifest.columns)
            ]
            data["outputs"] = [{"name": tensor.name} for tensor in self._tensors]
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)

    def _arrays(self, body: bytes, rows: int) -> dict[str, Any]:
        """Read and check an answer. Raises ContainerError."""
        try:
            data = orjson.loads(body)
        except ValueError as error:
            raise ContainerError(f"the container's answer is no JSON: {error}") from error
        if not isinstance(data, dict):
            raise ContainerError("the container's answer is no JSON object")
        read = _predictions if self._container.protocol == "json" else _tensors
        found = read(data, self._tensors, rows)
        labels = set(self._release.manifest.output.labels)
        arrays = {}
        for tensor in self._tensors:
            array = arrays[tensor.name] = _array(tensor, found[tensor.name], rows)
            if tensor.datatype == "BYTES" and not labels.issuperset(array.reshape(-1)):
                raise ContainerError(f"output '{tensor.name}' has labels that the manifest doesn't have")
        return arrays


def _sent(values: Matrix, kind: str, categories: tuple[str, ...]) -> Any:
    """Return a column as JSON has it; what is missing as null."""
    if kind == "float":
        return np.ascontiguousarray(values)
    if kind == "int":
        return [None if math.isnan(value) else int(value) for value in values.tolist()]
    return [None if math.isnan(value) else categories[int(value)] for value in values.tolist()]


def _tensors(data: dict[str, Any], expected: tuple[Tensor, ...], rows: int) -> dict[str, Any]:
    """Return the data of the outputs by name, after checking what V2 says about it."""
    outputs = data.get("outputs")
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise ContainerError("the container's answer has no list 'outputs'")
    by_name = {str(each.get("name")): each for each in outputs}
    found = {}
    for tensor in expected:
        each = by_name.get(tensor.name)
        if each is None:
            raise ContainerError(f"the answer has no output '{tensor.name}', but {_some(by_name)}")
        if each.get("datatype") != tensor.datatype:
            what = str(each.get("datatype"))[:20]
            raise ContainerError(f"output '{tensor.name}' has the datatype {what}, expected {tensor.datatype}")
        shape = [rows, *tensor.shape]
        # One value a row is written either way.
        if each.get("shape") != shape and not (tensor.shape == () and each.get("shape") == [rows, 1]):
            what = str(each.get("shape"))[:60]
            raise ContainerError(f"output '{tensor.name}' has the shape {what}, expected {shape}")
        found[tensor.name] = each.get("data")
    return found


def _predictions(data: dict[str, Any], expected: tuple[Tensor, ...], rows: int) -> dict[str, Any]:
    """Return the data of the outputs by name: of one alone a value a row, of several an object a row."""
    predictions = data.get("predictions")
    if not isinstance(predictions, list) or len(predictions) != rows:
        got = f"{len(predictions)} of them" if isinstance(predictions, list) else "none"
        raise ContainerError(f"expected {rows} 'predictions', got {got}")
    if len(expected) == 1 and not any(isinstance(each, dict) for each in predictions):
        return {expected[0].name: predictions}
    for row, each in enumerate(predictions):
        for tensor in expected:
            if not isinstance(each, dict) or tensor.name not in each:
                raise ContainerError(f"prediction {row} has no '{tensor.name}'")
    return {tensor.name: [each[tensor.name] for each in predictions] for tensor in expected}


def _array(tensor: Tensor, data: Any, rows: int) -> npt.NDArray[Any]:
    """Return the data of an output, flat or nested, as an array with a row first. Raises ContainerError."""
    shape = (rows, *tensor.shape)
    texts = tensor.datatype == "BYTES"
    try:
        array: npt.NDArray[Any] = np.array(data) if isinstance(data, list) else np.array(())
    except ValueError as error:
        raise ContainerError(f"output '{tensor.name}' is no regular table of values: {error}") from error
    if array.size != math.prod(shape):
        raise ContainerError(f"output '{tensor.name}' has {array.size} values, expected {math.prod(shape)}")
    if array.dtype.kind not in ("U" if texts else "iuf"):
        kind = "text" if texts else "a finite number"
        raise ContainerError(f"output '{tensor.name}' has values that are not {kind}")
    if texts:
        return array.astype(object).reshape(shape)
    with np.errstate(over="ignore"):
        single = array.astype(np.float32).reshape(shape)
    if not np.isfinite(single).all():
        raise ContainerError(f"output '{tensor.name}' has values that are no finite float32")
    return single


def _some(names: dict[str, Any]) -> str:
    return ", ".join(f"'{name[:40]}'" for name in list(names)[:5]) or "none"
