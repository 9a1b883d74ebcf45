"""What a long run prints meanwhile: one line that changes on a terminal, else one now and then."""

import sys
import time

PRINT_EVERY_SECONDS = 60.0


class Progress:
    """Where a run is; nothing is printed without `show`."""

    def __init__(self, *, show: bool = True) -> None:
        self._show = show
        self._start = self._printed = time.monotonic()

    def tell(self, text: str) -> None:
        """Show where it is now."""
        now = time.monotonic()
        line = f"{now - self._start:5.0f} s: {text}"
        if self._show and sys.stdout.isatty():
            print(f"\r\033[K{line}", end="", flush=True)
        elif self._show and now - self._printed >= PRINT_EVERY_SECONDS:
            self._printed = now
            print(line, flush=True)

    def end(self) -> None:
        """Leave the line to what is printed next."""
        if self._show and sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
