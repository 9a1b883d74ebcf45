"""Tasks: what the server goes on with after its 202. They are this process's memory, and gone with it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
from cachetools import TTLCache

from workers import container_http
from workers.container_http import ContainerError, ContainerUnavailable
from workers.serve.model import Answered

logger = logging.getLogger(__name__)

MOST_TASKS = 1_000
KEEP_SECONDS = 3_600.0
# Between the tries of a webhook.
PAUSES = (1.0, 5.0)
WEBHOOK_SECONDS = 10.0


class Full(RuntimeError):
    """No task may be added now."""


@dataclass
class Task:
    """One request that goes on by itself. `answer` or `error` once it has ended."""

    webhook: str = ""
    id: str = field(default_factory=lambda: str(uuid4()))
    state: str = "running"
    answer: Answered | None = None
    error: str = ""

    @property
    def as_json(self) -> dict[str, Any]:
        """What is said about it."""
        about: dict[str, Any] = {"id": self.id, "state": self.state, "status_path": f"/tasks/{self.id}"}
        if self.answer is not None:
            about["result_path"] = f"/tasks/{self.id}/result"
        if self.error:
            about["error"] = self.error
        return about


class Tasks:
    """Those that run, and for an hour those that have ended. Used in the server's event loop only."""

    def __init__(self) -> None:
        self._ended: TTLCache[str, Task] = TTLCache(MOST_TASKS, KEEP_SECONDS)
        self._running: dict[str, tuple[Task, asyncio.Task[None]]] = {}

    def get(self, task_id: str) -> Task | None:
        """Return a task, if it is known (any more)."""
        running = self._running.get(task_id)
        return running[0] if running else self._ended.get(task_id)

    def start(self, work: Callable[[], Awaitable[Answered]], webhook: str = "") -> Task:
        """Go on with `work`; tells the webhook when it has ended. Raises Full."""
        if len(self._running) >= MOST_TASKS:
            raise Full(f"{MOST_TASKS} tasks run already, come again later")
        task = Task(webhook)
        self._running[task.id] = (task, asyncio.create_task(self._run(task, work)))
        return task

    async def _run(self, task: Task, work: Callable[[], Awaitable[Answered]]) -> None:
        try:
            task.answer = await work()
            task.state = "succeeded"
        except Exception as error:
            logger.exception("task %s failed", task.id)
            task.error, task.state = str(error).partition("\n")[0] or type(error).__name__, "failed"
        finally:
            self._ended[task.id] = task
            del self._running[task.id]
        if task.webhook:
            await _tell(task)


async def _tell(task: Task) -> None:
    """POST what became of a task to its webhook: the task, and the answer if it is JSON."""
    about = task.as_json
    if task.answer is not None and task.answer.content_type == "application/json":
        about["result"] = orjson.loads(task.answer.body)
    body = orjson.dumps(about)
    for pause in (*PAUSES, None):
        try:
            reply = await asyncio.to_thread(
                container_http.post,
                task.webhook,
                body,
                {"Content-Type": "application/json"},
                seconds=WEBHOOK_SECONDS,
                connect=WEBHOOK_SECONDS,
            )
            if 200 <= reply.status < 300:
                return
            reason = f"it answered {reply.status}"
        except (ContainerUnavailable, ContainerError) as error:
            reason = str(error)
        logger.warning("the webhook of task %s was not told: %s", task.id, reason)
        if pause is not None:
            await asyncio.sleep(pause)
