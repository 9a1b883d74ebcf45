"""The Prefer header (RFC 7240): how long, and on which way, a client waits."""

import re
from dataclasses import dataclass

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = r'"(?:[^"\\]|\\.)*+'
# Possessive, so that no header makes them go back and try again. A comma inside quotes separates nothing, and quotes
# that stay open take the rest.
_ELEMENT = re.compile(rf'(?:[^,"]|{_QUOTED}(?:"|\\?$))++')
_PREFERENCE = re.compile(rf'\s*+({_WORD})\s*+(?:=\s*+({_WORD}|{_QUOTED}")?+\s*+)?+(?:;|$)')

ASYNC = "respond-async"
PROXY = "respond-async-proxy"
CONTAINER = "respond-async-container"
# Characters of what is passed on; more isn't.
MAX_OTHERS = 500


@dataclass(frozen=True, slots=True)
class Preference:
    """What the client asked for: who answers it (one of the three above; "" waits on the connection), and the seconds
    to wait at most (None: not said). `others` are the preferences that aren't ours, as they were sent: a container may
    know them."""

    mode: str = ""
    wait: float | None = None
    others: str = ""

    @property
    def applied(self) -> str:
        """What `Preference-Applied` says once all of it was honoured."""
        wait = "" if self.wait is None else f"wait={self.wait:g}"
        return ", ".join(filter(None, (self.mode, wait)))

    @property
    def for_container(self) -> str:
        """What a container gets as its header Prefer: it is to go on by itself if nobody here waits for its result."""
        goes_on = ASYNC if self.mode in (PROXY, CONTAINER) else ""
        return ", ".join(filter(None, (goes_on, self.others)))

    def at_once(self) -> "Preference":
        """Return the same without the wait."""
        return Preference(self.mode, others=self.others)


def parse(header: str | None, longest: float) -> Preference:
    """Read the header (several lines arrive joined by commas).

    What isn't ours is kept for a container, and what can't be read passed over, as RFC 7240 asks. Of several modes the
    first counts, and a wait is cut to `longest` seconds; fire and forget, and a relay, leave nothing to wait for.
    """
    mode = ""
    others: list[str] = []
    wait: float | None = None
    for element in _ELEMENT.findall(header or ""):
        match = _PREFERENCE.match(element)
        if match is None:
            continue
        name, value = match[1].lower(), (match[2] or "").strip('"')
        if name in (ASYNC, PROXY, CONTAINER):
            mode = mode or name
        elif name != "wait":
            others.append(element.strip())
        elif wait is None and re.fullmatch(r"[0-9]+", value):
            wait = min(float(value), longest)
    if mode in (PROXY, CONTAINER):
        wait = None
    passed_on = ", ".join(others)
    if len(passed_on) > MAX_OTHERS or not (passed_on.isascii() and passed_on.isprintable()):
        passed_on = ""
    return Preference(mode, wait, passed_on)
