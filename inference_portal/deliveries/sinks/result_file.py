"""What sinks have in common that keep each result as a file: its key and its content.

The key is made of the operator's template and of names that hold neither a slash nor a dot: nothing that a client sends
chooses a place. The same job has the same key and the same content, however often it is delivered.
"""

import re
from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from inference_portal.batches.schedules import templates
from inference_portal.deliveries.retry import Answer
from inference_portal.deliveries.sinks.sink import NotSent, Parcel, Sink
from inference_portal.deliveries.sinks.threads import in_thread
from inference_portal.jobs.states import State
from workers.formats import json_v2, media
from workers.formats.answer import Answer as Result

# What a key may be made of, and what that is; for the docs and for those who guess.
NAMES = {
    "team": "the team",
    "model": "the model",
    "version": "its version",
    "day": "the day on which the job ended, in UTC: 2026-01-31",
    "hour": "the hour in which it ended, in UTC: 03",
    "job": "the job's id; every key has it",
    "extension": "json, csv or parquet",
}
MEDIA_TYPES = {"json": media.JSON, "csv": media.CSV, "parquet": "application/vnd.apache.parquet"}
_VALUE = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Not hidden, and no way up.
_PART = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199}")


def _check_key(template: str) -> str:
    try:
        key = templates.render(template, dict.fromkeys(NAMES, "x"))
    except templates.WrongTemplate as error:
        raise ValueError(str(error)) from error
    if "job" not in templates.names_in(template):
        raise ValueError("expected {{ job }} in it: two jobs would have the same key")
    if not all(_PART.fullmatch(part) for part in key.split("/")):
        raise ValueError(
            "expected names between slashes, of letters, digits, '_', '-', '=' and '.', not beginning with '.'"
        )
    return template


class ResultFile(Sink):
    """A file for each job that succeeds."""

    format: Literal["json", "csv", "parquet"] = "json"
    """What the result is written as; json is V2."""
    key: Annotated[str, Field(max_length=500), AfterValidator(_check_key)] = (
        "{{ team }}/{{ model }}/{{ day }}/{{ job }}.{{ extension }}"
    )
    """Where the file is below the bucket or the folder."""

    @abstractmethod
    def put(self, key: str, content: bytes, *, is_repeat: bool, seconds: float) -> None:
        """Write the file, whole or not at all, in the place of one that is there. Raises NotSent or anything else."""

    def wants(self, kind: str) -> bool:
        """Tell whether it is to hear of events of this type: without a result there is nothing to write."""
        return kind == f"inference.job.{State.SUCCEEDED.value}"

    async def send(self, parcel: Parcel, seconds: float) -> Answer:
        """Write the result under its key."""

        def work() -> str:
            key = self.key_of(parcel.event)
            self.put(key, self._content(parcel), is_repeat=parcel.is_repeat, seconds=seconds)
            return key

        return await in_thread(parcel.sink, work, seconds)

    def key_of(self, event: dict[str, Any]) -> str:
        """Return the key for the event of a job's end. Raises NotSent for a value that isn't a plain name."""
        data = event["data"]
        ended = data["finished_at"]
        values = {
            "team": event["team"],
            "model": data["model"],
            "version": data["version"],
            "day": ended[:10],
            "hour": ended[11:13],
            "job": data["job"],
            "extension": self.format,
        }
        for name, value in values.items():
            if not _VALUE.fullmatch(value):
                raise NotSent(f"the {name} can't be a part of a key", is_final=True)
        return templates.render(self.key, values)

    def _content(self, parcel: Parcel) -> bytes:
        if parcel.result is None:
            raise NotSent("the result is no longer kept", is_final=True)
        data = parcel.event["data"]
        # As the result's path answers; JSON as V2, whatever the request was.
        result = Result.of(
            parcel.reply | {"format": json_v2.NAME},
            model=data["model"],
            version=data["version"],
            job_id=data["job"],
            outputs=parcel.result,
        )
        try:
            return media.encode(MEDIA_TYPES[self.format], result)[0]
        except Exception as error:
            raise NotSent(f"the result can't be written as {self.format}: {error}", is_final=True) from error
