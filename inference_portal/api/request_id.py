"""The names that a client may give a request: X-Inference-Id, an id of its own, and Idempotency-Key."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from rest_framework.request import Request
from rest_framework.views import APIView

from workers.formats import Malformed, Unavailable

MAX_KEY_LENGTH = 255
# What to do where the headers, which name one request, can't be read.
_OF_ONE = {
    "X-Inference-Id": "send each job by PUT under its id",
    "Idempotency-Key": "send each job's field 'idempotency_key'",
}


class OfOneJob(APIView):
    """A view of the job that its path names; a header X-Inference-Id may repeat that, not contradict it."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check who is asking, and the header. Raises what the framework does, and Malformed."""
        super().initial(request, *args, **kwargs)
        path, header = kwargs.get("job_id"), request.headers.get("X-Inference-Id")
        contradictory = path is not None and header is not None and read_uuid(header) != read_uuid(str(path))
        # A method that there isn't is 405, whatever the header says.
        if contradictory and request.method in self.allowed_methods:
            raise Malformed(f"X-Inference-Id '{header}' contradicts the path, which names '{path}'.")


class Names(NamedTuple):
    """What a client calls its request: an id, a key, both or none."""

    id: UUID | None = None
    key: str = ""


NO_NAMES = Names()


def names(headers: Mapping[str, str]) -> Names:
    """Read both headers. Raises Malformed, which names the header."""
    job_id = read_uuid(headers["X-Inference-Id"]) if "X-Inference-Id" in headers else None
    if job_id is None and "X-Inference-Id" in headers:
        raise Malformed("X-Inference-Id: expected a UUID, such as 0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11")
    key = headers.get("Idempotency-Key", "")
    if "Idempotency-Key" in headers and not (is_key(key) and key.isascii()):
        raise Malformed(f"Idempotency-Key: expected 1 to {MAX_KEY_LENGTH} printable ASCII characters")
    return Names(job_id, key)


def refuse_headers(headers: Mapping[str, str]) -> None:
    """Raise Unavailable where one request stands for many: passing over a name would mislead."""
    for header, instead in _OF_ONE.items():
        if header in headers:
            raise Unavailable(f"The header {header} is not read on this path; {instead}.")


def refuse_names(headers: Mapping[str, str]) -> None:
    """Raise Unavailable where nothing has a name of the client's: who sent one would believe in it, and send again."""
    for header in _OF_ONE:
        if header in headers:
            raise Unavailable(f"The header {header} is not read on this path; sent twice, it would be done twice.")


def read_uuid(text: str) -> UUID | None:
    """Return the UUID, in any of its usual forms; None for anything else."""
    try:
        return UUID(text)
    except ValueError:
        return None


def is_key(text: str) -> bool:
    """Tell whether the text may be an idempotency key in a body. In a header it has to be ASCII."""
    return 1 <= len(text) <= MAX_KEY_LENGTH and text.isprintable()
