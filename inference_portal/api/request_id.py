"""The names that a client may give a request: X-Inference-Id, an id of its own, and Idempotency-Key."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from workers.formats import Malformed

MAX_KEY_LENGTH = 255


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
    if "Idempotency-Key" in headers and not is_key(key):
        raise Malformed(f"Idempotency-Key: expected 1 to {MAX_KEY_LENGTH} printable ASCII characters")
    return Names(job_id, key)


def read_uuid(text: str) -> UUID | None:
    """Return the UUID, in any of its usual forms; None for anything else."""
    try:
        return UUID(text)
    except ValueError:
        return None


def is_key(text: str) -> bool:
    """Tell whether the text may be an idempotency key. In a body it may be more than ASCII, in a header it can't."""
    return 1 <= len(text) <= MAX_KEY_LENGTH and text.isprintable()
