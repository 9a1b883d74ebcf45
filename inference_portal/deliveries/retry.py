"""What follows a try: pure, like `jobs.retry`. Three days of tries, ever rarer, each a little off its time."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from inference_portal.deliveries.states import Event

GONE = 410
# Between the tries, in seconds; then every twelve hours.
DELAYS = (5.0, 30.0, 120.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0)
LAST_DELAY = 43_200.0
GIVE_UP_AFTER = 3 * 86_400.0
# So that what failed together doesn't come back together.
JITTER = 0.2
# A receiver may ask for more patience than that, not for for ever.
MAX_RETRY_AFTER = 86_400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a try has given: a status, or why there is none."""

    status: int | None = None
    error: str = ""
    seconds: float = 0.0
    excerpt: str = ""
    retry_after: float | None = None
    # A sink that isn't HTTP has it.
    arrived: bool = False
    # Trying again can't help: the address itself isn't allowed, or the result is gone.
    is_final: bool = False

    @property
    def is_success(self) -> bool:
        """Tell whether the receiver has it."""
        return self.arrived or (self.status is not None and 200 <= self.status < 300)

    @property
    def is_down(self) -> bool:
        """Tell whether the receiver as a whole seems to be in trouble, not only with this."""
        return not (self.is_final or self.arrived) and (self.status is None or self.status in (429, 500, 502, 503, 504))


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows: the event, the seconds until the next try, and whether the endpoint wants no more."""

    event: Event
    delay: float = 0.0
    disables: bool = False


def decide(answer: Answer, *, tries: int, age: float, jitter: float) -> Decision:
    """Decide after the try number `tries` (from 1), `age` seconds after the first could be; `jitter` is 0 to 1."""
    if answer.is_success:
        return Decision(Event.SUCCEED)
    if answer.status == GONE:
        return Decision(Event.GIVE_UP, disables=True)
    delay = delay_after(tries, jitter, answer.retry_after)
    if answer.is_final or age + delay > GIVE_UP_AFTER:
        return Decision(Event.GIVE_UP)
    return Decision(Event.RETRY, delay)


def delay_after(tries: int, jitter: float, retry_after: float | None = None) -> float:
    """Return the seconds to the next try; a receiver's own wish can only make them more."""
    usual = DELAYS[tries - 1] if tries <= len(DELAYS) else LAST_DELAY
    spread = usual * (1 + JITTER * (2 * jitter - 1))
    return max(spread, min(retry_after or 0.0, MAX_RETRY_AFTER))


def read_retry_after(text: str, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, given as a number or as a date; None if it is neither."""
    if re.fullmatch("[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, OverflowError):
        return None
