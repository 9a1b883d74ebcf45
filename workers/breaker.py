"""A breaker: what failed several times in a row isn't asked for a while, so that nobody waits for it."""

import threading
import time
from collections.abc import Callable

FAILURES = 5
PAUSE_SECONDS = 2.0
LONGEST_SECONDS = 60.0


class Breaker:
    """Open after FAILURES in a row; then one try after a pause, which doubles each time that this fails too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = float("-inf")

    @property
    def failing(self) -> bool:
        """Tell whether it is open, or will be tried for the first time again."""
        return self._failures >= FAILURES

    @property
    def seconds(self) -> float:
        """How long nothing is tried."""
        return max(0.0, self._open_until - self._clock())

    def allows(self) -> bool:
        """Tell whether to try now. Of those who ask when the pause is over only one is told so."""
        with self._lock:
            if not self.failing:
                return True
            if self._clock() < self._open_until:
                return False
            self._open_until = self._clock() + self._pause()
            return True

    def succeeded(self) -> None:
        """Note a success: all is well again."""
        with self._lock:
            self._failures = 0
            self._open_until = float("-inf")

    def failed(self) -> None:
        """Note a failure."""
        with self._lock:
            self._failures += 1
            if self.failing:
                self._open_until = self._clock() + self._pause()

    def _pause(self) -> float:
        return float(min(PAUSE_SECONDS * 2 ** min(self._failures - FAILURES, 10), LONGEST_SECONDS))
