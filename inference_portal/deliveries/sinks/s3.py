"""Results as objects in S3, or what speaks like it: where the system's data sets are, with the same account."""

import re
from typing import Annotated, Literal

from pydantic import Field

from inference_portal.deliveries.sinks.result_file import MEDIA_TYPES, ResultFile
from inference_portal.deliveries.sinks.sink import NotSent

# What pyarrow says: the code, and the server's own words.
_TOLD = re.compile(
    r"AWS Error (?P<code>[A-Z_0-9]+)(?: \(HTTP status (?P<status>\d+)\))?.*?operation: (?P<text>.*)", re.S
)


class S3Sink(ResultFile):
    """An object for each job that succeeds."""

    type: Literal["s3"]
    """s3."""
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    """The bucket, which must be there."""

    def put(self, key: str, content: bytes, *, is_repeat: bool, seconds: float) -> None:
        """Write the object in one request. Raises NotSent."""
        # pyarrow takes 40 MB, which a courier without such a sink saves.
        from workers.datasets import s3_place

        try:
            s3_place.put(f"{self.bucket}/{key}", content, MEDIA_TYPES[self.format], seconds)
        except OSError as error:
            raise NotSent(reason(str(error))) from error


def reason(text: str) -> str:
    """Return what a person needs of pyarrow's words."""
    told = _TOLD.search(text)
    if told is None:
        return f"S3: {text}"
    status = f" ({told['status']})" if told["status"] else ""
    return f"S3: {told['code']}{status}: {told['text']}"
