"""What can only be waited for, in threads: each sink has some, so that one that hangs holds up no other delivery."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from inference_portal.deliveries.breaker import CALLS_PER_HOST
from inference_portal.deliveries.retry import Answer
from inference_portal.deliveries.sinks.sink import NotSent

logger = logging.getLogger(__name__)

_taken: Counter[str] = Counter()
_lock = threading.Lock()


async def in_thread(sink: str, work: Callable[[], str], seconds: float) -> Answer:
    """Do the work in a thread of its own and return what came of it, within so many seconds. `work` returns what it
    has to say about its success, and raises NotSent or anything else.

    A thread can't be ended. One that takes longer is left behind, and has its place until it ends by itself; what it
    does then, the next try does again. No pool: Python would wait for its threads when the courier ends.
    """
    with _lock:
        if _taken[sink] >= CALLS_PER_HOST:
            return Answer(error=f"{CALLS_PER_HOST} earlier tries hang")
        _taken[sink] += 1
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Answer] = loop.create_future()

    def settle(answer: Answer) -> None:
        if not done.done():
            done.set_result(answer)

    def run() -> None:
        try:
            answer = _answer(sink, work)
        finally:
            _give_back(sink)
        # The courier may have ended meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, answer)

    try:
        threading.Thread(target=run, name=f"sink {sink}", daemon=True).start()
    except RuntimeError:
        _give_back(sink)
        raise
    try:
        return await asyncio.wait_for(done, seconds)
    except TimeoutError:
        return Answer(error=f"it took longer than {seconds:g} s")


def _answer(sink: str, work: Callable[[], str]) -> Answer:
    try:
        return Answer(arrived=True, excerpt=work())
    except NotSent as error:
        return Answer(error=str(error), is_final=error.is_final)
    except Exception as error:
        logger.warning("sink %s: %s: %s", sink, type(error).__name__, error)
        return Answer(error=f"{type(error).__name__}: {error}")


def _give_back(sink: str) -> None:
    with _lock:
        _taken[sink] -= 1
