"""One try to deliver to a sink."""

import time
from dataclasses import replace

from inference_portal.deliveries import letters
from inference_portal.deliveries.models import Delivery
from inference_portal.deliveries.retry import Answer
from inference_portal.deliveries.sinks.file import configured
from inference_portal.deliveries.sinks.sink import NotSent, Parcel


def parcel(delivery: Delivery) -> Parcel:
    """Return what to send; its job with the result is read with the delivery."""
    job = delivery.job
    return Parcel(
        sink=delivery.sink or "",
        event_id=delivery.event_id,
        is_repeat=delivery.tries > 1,
        event=delivery.event,
        body=letters.body(delivery),
        reply={} if job is None else job.reply,
        result=None if job is None or job.result is None else bytes(job.result),
    )


async def send(sent: Parcel, seconds: float) -> Answer:
    """Hand it to its sink, and return what came of it. Never raises."""
    begun = time.monotonic()
    sink = configured().get(sent.sink)
    try:
        if sink is None:
            raise NotSent("the courier's file has no sink of this name")
        answer = await sink.send(sent, seconds)
    except NotSent as error:
        answer = Answer(error=str(error), is_final=error.is_final)
    except Exception as error:
        answer = Answer(error=f"{type(error).__name__}: {error}")
    text = " ".join(answer.error.split()).encode("ascii", "replace").decode()
    return replace(answer, error=text[:255], seconds=time.monotonic() - begun)
