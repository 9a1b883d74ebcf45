"""Reading Accept (RFC 9110, 12.5.1). Django's own way forgets a "not this one" (q=0) that stands beside a wildcard."""

from collections.abc import Iterable
from operator import attrgetter

from django.http.request import MediaType

ANYTHING = "*/*"


def preferred(header: str, kinds: Iterable[str]) -> str | None:
    """Return the one of these media types that the client likes best, None if it takes none of them.

    The most specific range that fits a type speaks for it. Of types that are liked equally the one goes first that is
    named more exactly, then earlier in the header, then earlier among `kinds`.
    """
    ranges = [MediaType(part) for part in header.split(",") if part.strip()]
    ranges.sort(key=attrgetter("specificity", "quality"), reverse=True)
    best: tuple[float, int] | None = None
    chosen = None
    for kind in kinds:
        at = next((i for i, each in enumerate(ranges) if each.match(kind)), None)
        if at is None or ranges[at].quality == 0:
            continue
        # An earlier place among the ranges is the more exact one, or the earlier of equally exact ones.
        liked = (ranges[at].quality, -at)
        if best is None or liked > best:
            best, chosen = liked, kind
    return chosen
