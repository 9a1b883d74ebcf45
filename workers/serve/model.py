"""The model behind the server: from a body to an answer, in a few threads, with a bounded number of those that wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from workers.config import model_store_dir
from workers.formats import Decoded, Limits, media
from workers.formats.answer import Answer
from workers.model_store import ModelStore
from workers.outputs import encode_tensors
from workers.serve.options import Options
from workers.served import Served

T = TypeVar("T")
# Who comes when so many wait is told to come later.
MOST_WAITING = 64
LIMITS = Limits(rows=65_536, columns=10_000)


class Busy(RuntimeError):
    """Too many wait already."""


class Answered(NamedTuple):
    """An answer on its way out."""

    body: bytes
    content_type: str
    headers: dict[str, str]


class ServedModel:
    """One release, loaded, warmed up, and checked against its golden samples."""

    def __init__(self, options: Options) -> None:
        self.release = ModelStore(model_store_dir()).get(options.model, options.version)
        self.served = Served(self.release, self.release.artifact())
        self.served.warm_up()
        self.served.check_samples()
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="predict")
        self._waiting = 0

    async def in_thread(self, work: Callable[[], T], *, accepted: bool = False) -> T:
        """Do something that takes the processor. Raises what `work` raises; Busy, but not of what was accepted."""
        if self._waiting >= MOST_WAITING and not accepted:
            raise Busy("too many requests wait already, come again later")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def decode(self, content_type: str, header_length: str | None, body: bytes) -> Decoded:
        """Read a body of any type that the portal reads, too. Raises what `media.decode` raises."""
        return media.decode(self.release, media.Sent(content_type, header_length), body, LIMITS)

    def predict(self, decoded: Decoded, request_id: str) -> Answered:
        """Return the answer, in the type in which the request came. Raises BadData and whatever a model raises."""
        manifest = self.release.manifest
        arrays = self.served.outputs(decoded.matrix, explain=decoded.explain)
        outputs = encode_tensors(manifest.tensors(explain=decoded.explain), arrays, slice(None)).encode()
        answer = Answer.of(
            decoded.reply, model=manifest.model, version=manifest.version, job_id=request_id, outputs=outputs
        )
        return Answered(*media.encode(media.default_type(decoded.reply), answer))
