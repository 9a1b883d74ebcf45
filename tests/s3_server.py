"""An S3 of the tests' own, by moto, in a thread of this process."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class _Silent(WSGIRequestHandler):
    def log(self, *args: Any) -> None:
        pass


@contextmanager
def s3_server(port: int = 0) -> Iterator[str]:
    """Yield the address of an empty S3; any account may do everything there."""
    server = make_server("127.0.0.1", port, _like_amazon, threaded=True, request_handler=_Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_moto = DomainDispatcherApplication(create_backend_app)


def _like_amazon(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with moto, but to the end of an upload as S3 does: pyarrow takes moto's answer for an error."""
    started: list[Any] = []
    body = b"".join(_moto(environ, lambda *args: started.append(args)))
    status, headers = started[0][:2]
    if b"CompleteMultipartUploadResponse" in body:
        body = body.replace(b"CompleteMultipartUploadResponse", b"CompleteMultipartUploadResult")
        body = body[body.rindex(b"<?xml") :]
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        headers.append(("Content-Length", str(len(body))))
    start_response(status, headers)
    return [body]
