"""The routes: Open Inference Protocol, and the tasks of those who don't wait."""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.formats import Invalid, Malformed, TooLarge, Unavailable, UnknownType, json_v2
from workers.formats.v2_binary import HEADER
from workers.preprocessing import BadData
from workers.serve.model import Answered, Busy, ServedModel
from workers.serve.options import Options
from workers.serve.tasks import Full, Task, Tasks

MOST_BYTES = 32 * 2**20
_STATUS: dict[type[Exception], int] = {
    Malformed: 400,
    TooLarge: 413,
    UnknownType: 415,
    Invalid: 422,
    Unavailable: 422,
    BadData: 422,
    Busy: 503,
    Full: 503,
}


def create() -> Starlette:
    """Load the model that the environment names, and return the server's application."""
    options = Options.of_environment()
    server = _Server(ServedModel(options), frozenset(options.webhook_hosts))
    one = f"/v2/models/{server.model.release.manifest.model}"
    paths = [one, f"{one}/versions/{server.model.release.manifest.version}"]
    routes = [
        Route("/v2", server.about),
        Route("/v2/health/live", server.well),
        Route("/v2/health/ready", server.well),
        *(Route(path, server.metadata) for path in paths),
        *(Route(f"{path}/ready", server.well) for path in paths),
        *(Route(f"{path}/infer", server.infer, methods=["POST"]) for path in paths),
        Route("/tasks/{id}", server.status),
        Route("/tasks/{id}/result", server.result),
    ]
    errors: dict[type[Exception] | int, Callable[[Request, Exception], Awaitable[Response]]] = dict.fromkeys(
        (*_STATUS, Exception), _refused
    )
    return Starlette(routes=routes, exception_handlers=errors)


class _Server:
    """What the routes do."""

    def __init__(self, model: ServedModel, webhook_hosts: frozenset[str]) -> None:
        self.model = model
        self._hosts = webhook_hosts
        self._tasks = Tasks()

    async def about(self, request: Request) -> Response:
        return JSONResponse({"name": "workers.serve", "version": "1", "extensions": ["binary_tensor_data"]})

    async def well(self, request: Request) -> Response:
        return JSONResponse({"ready": True})

    async def metadata(self, request: Request) -> Response:
        manifest = self.model.release.manifest
        return JSONResponse(json_v2.metadata(manifest, [manifest.version]))

    async def infer(self, request: Request) -> Response:
        """Predict: at once, or with `Prefer: respond-async` after a 202."""
        headers = request.headers
        request_id = headers.get("X-Inference-Id") or str(uuid4())
        webhook = self._webhook(headers.get("X-Inference-Webhook", ""))
        coding = headers.get("Content-Encoding", "identity")
        if coding != "identity":
            raise UnknownType(f"Content-Encoding: {coding[:40]}: only bodies as they are, are read here")
        body = await _body(request)
        content_type, length = headers.get("Content-Type", ""), headers.get(HEADER)
        decoded = await self.model.in_thread(lambda: self.model.decode(content_type, length, body))

        def predict() -> Answered:
            return self.model.predict(decoded, request_id)

        if not _goes_on(headers.get("Prefer", "")):
            return _response(await self.model.in_thread(predict), request_id)
        task = self._tasks.start(lambda: self.model.in_thread(predict, accepted=True), webhook)
        answer = JSONResponse(task.as_json, status_code=202)
        answer.headers.update(
            {
                "Location": f"/tasks/{task.id}",
                "Retry-After": "1",
                "Preference-Applied": "respond-async",
                "X-Inference-Id": request_id,
            }
        )
        return answer

    async def status(self, request: Request) -> Response:
        task = self._task(request)
        return _unknown() if task is None else JSONResponse(task.as_json)

    async def result(self, request: Request) -> Response:
        task = self._task(request)
        if task is None:
            return _unknown()
        if task.answer is not None:
            return _response(task.answer, task.id)
        if task.error:
            return JSONResponse({"error": task.error}, status_code=500)
        return JSONResponse(task.as_json, status_code=202, headers={"Retry-After": "1"})

    def _task(self, request: Request) -> Task | None:
        return self._tasks.get(request.path_params["id"])

    def _webhook(self, url: str) -> str:
        """Return an address that may be told. Raises Invalid: nobody makes this server call where it pleases them."""
        if not url:
            return ""
        try:
            parts = urlsplit(url)
            allowed = parts.scheme in ("http", "https") and parts.hostname in self._hosts and "@" not in parts.netloc
        except ValueError:
            allowed = False
        if not allowed or not re.fullmatch(r"[!-~]{1,2000}", url):
            raise Unavailable("X-Inference-Webhook: its host is none of --webhook-hosts")
        return url


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise TooLarge(f"a body may have {MOST_BYTES:,} bytes")
    return bytes(body)


def _goes_on(prefer: str) -> bool:
    return any(part.partition(";")[0].strip().lower() == "respond-async" for part in prefer.split(","))


def _response(answer: Answered, request_id: str) -> Response:
    headers = answer.headers | {"X-Inference-Id": request_id}
    return Response(answer.body, headers=headers, media_type=answer.content_type)


def _unknown() -> Response:
    return JSONResponse({"error": "there is no such task (any more)"}, status_code=404)


async def _refused(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    text = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, Invalid):
        text = "; ".join(f"{fault.pointer or 'body'}: {fault.detail}" for fault in error.faults)
    return JSONResponse({"error": text}, status_code=status, headers={"Retry-After": "1"} if status == 503 else None)
