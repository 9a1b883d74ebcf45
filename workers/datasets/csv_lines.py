"""Where the lines of a CSV end: a line end inside of quotes is a part of a value.

Quotes count as `csv` of the standard library and pyarrow read them: they open at the start of a value only, and two of
them inside of quotes stand for one. numpy looks at large blocks; Python only at the quotes of a block that has some
elsewhere.
"""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

_LF, _CR = b"\n\r"


class Lines:
    """Goes through a CSV in blocks, from the start of a line on."""

    def __init__(self, delimiter: str, quote: str) -> None:
        """`quote` is empty where there are none."""
        self._starts = np.array([ord(delimiter), _LF, _CR], dtype=np.uint8)
        self._quote = ord(quote) if quote else None
        # The state between two blocks: the byte before, whether it closed quotes, and whether the next one is inside.
        self._before = _LF
        self._closed = False
        self.in_quotes = False

    def ends(self, block: bytes) -> Places:
        """Return the places in the block just behind each line end, in order."""
        data = np.frombuffer(block, dtype=np.uint8)
        ends = np.flatnonzero(data == _LF) + 1
        quotes = np.flatnonzero(data == self._quote) if self._quote is not None else ends[:0]
        if quotes.size:
            toggles = self._all_toggle(data, quotes)
            if toggles is None:
                toggles = self._toggles(data, quotes)
            inside = (np.searchsorted(toggles, ends - 1) + self.in_quotes) % 2
            ends = ends[inside == 0]
            self.in_quotes ^= bool(toggles.size % 2)
            self._closed = bool(not self.in_quotes and toggles.size and toggles[-1] == data.size - 1)
        elif data.size:
            ends = ends[:0] if self.in_quotes else ends
            self._closed = False
        if data.size:
            self._before = int(data[-1])
        return ends

    def _all_toggle(self, data: Bytes, quotes: Places) -> Places | None:
        """Return all quotes if each of them opens or closes, or is one of two inside of quotes; else None."""
        opening = quotes[int(self.in_quotes) :: 2]
        if not opening.size:
            return quotes
        # The quote before an opening one closed, if there was one.
        closing = np.empty_like(opening)
        closing[1:] = quotes[int(self.in_quotes) + 1 :: 2][: opening.size - 1]
        closing[0] = quotes[0] if self.in_quotes else (-1 if self._closed else -2)
        before = data[opening - 1]
        if opening[0] == 0:
            before[0] = self._before
        right = np.isin(before, self._starts) | (closing == opening - 1)
        return quotes if right.all() else None

    def _toggles(self, data: Bytes, quotes: Places) -> Places:
        """Return the quotes that open or close, leaving out those in the middle of a value without quotes."""
        starts = set(self._starts.tolist())
        inside, closed = self.in_quotes, -1 if self._closed else -2
        toggles = []
        for place in quotes.tolist():
            if inside:
                inside, closed = False, place
            elif closed == place - 1 or (int(data[place - 1]) if place else self._before) in starts:
                inside = True
            else:
                continue
            toggles.append(place)
        return np.array(toggles, dtype=np.int64)
