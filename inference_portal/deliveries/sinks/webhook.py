"""Results as calls, like those of webhooks, to an address that only an operator chooses."""

from typing import Literal

from inference_portal.deliveries import letters
from inference_portal.deliveries.calls import call
from inference_portal.deliveries.events import is_wanted
from inference_portal.deliveries.retry import Answer
from inference_portal.deliveries.sinks.sink import Events, NotSent, Parcel, Sink, Variable
from workers.config import secret
from workers.template.container import Url


class WebhookSink(Sink):
    """A signed call for each event."""

    type: Literal["webhook"]
    """webhook."""
    url: Url
    """The address. It is the operator's, so it may be a private one."""
    key_variable: Variable
    """The courier's environment variable with the key that signs: whsec_ and 24 to 64 bytes in base64."""
    events: Events = ("inference.job.*",)
    """What it hears of: types of events, or their beginnings with a * behind."""

    def wants(self, kind: str) -> bool:
        """Tell whether it is to hear of events of this type."""
        return is_wanted(kind, self.events)

    async def send(self, parcel: Parcel, seconds: float) -> Answer:
        """Make the call. Raises NotSent without a key."""
        key = secret(self.key_variable)
        if not key.startswith("whsec_"):
            raise NotSent(f"the courier's {self.key_variable} is no key of Standard Webhooks")
        headers = letters.headers(parcel.event_id, parcel.body, [key])
        return await call(self.url, headers, parcel.body, seconds, is_trusted=True)
