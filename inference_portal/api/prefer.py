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


@dataclass(frozen=True, slots=True)
class Preference:
    """What the client asked for: who answers it (one of the three above; "" waits on the connection), and the seconds
    to wait at most (None: not said)."""

    mode: str = ""
    wait: float | None = None

    @property
    def applied(self) -> str:
        """What `Preference-Applied` says once all of it was honoured."""
        wait = "" if self.wait is None else f"wait={self.wait:g}"
        return ", ".join(filter(None, (self.mode, wait)))

    def at_once(self) -> "Preference":
        """Return the same without the wait."""
        return Preference(self.mode)


def parse(header: str | None, longest: float) -> Preference:
    """Read the header (several lines arrive joined by commas).

    What isn't ours or can't be read is passed over, as RFC 7240 asks. Of several modes the first counts, and a wait is
    cut to `longest` seconds; fire and forget, and a relay to a container, leave nothing to wait for.
    """
    mode = ""
    wait: float | None = None
    for match in filter(None, map(_PREFERENCE.match, _ELEMENT.findall(header or ""))):
        name, value = match[1].lower(), (match[2] or "").strip('"')
        if name in (ASYNC, PROXY, CONTAINER):
            mode = mode or name
        elif name == "wait" and wait is None and re.fullmatch(r"[0-9]{1,30}", value):
            wait = min(float(value), longest)
    if mode in (PROXY, CONTAINER):
        wait = None
    return Preference(mode, wait)
