"""Reading a JSON body, and choosing between the two JSON formats by what is in it."""

import json
from typing import Any

import orjson

from workers.formats import Decoded, Fault, Invalid, Malformed, json_instances, json_v2
from workers.model_store import Release


def decode(release: Release, body: bytes, max_rows: int) -> Decoded:
    """Decode a V2 request or plain instances. Raises Malformed, Invalid, TooLarge, Unavailable."""
    data = read_object(body)
    if "inputs" in data and "instances" in data:
        raise Invalid(Fault("/instances", "expected either 'inputs' or 'instances', not both"))
    if "inputs" in data:
        return json_v2.decode(release, data, max_rows)
    if "instances" in data:
        return json_instances.decode(release, data["instances"], max_rows)
    raise Invalid(Fault("", "expected 'inputs' (V2 tensors) or 'instances' (rows)"))


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`. Raises Malformed."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        # Python's clients write NaN and Infinity, which JSON doesn't have; read them, so that the answer can name the
        # row instead of a byte.
        try:
            data = json.loads(body)
        except RecursionError as error:
            raise Malformed("the body is nested too deeply") from error
        except ValueError as error:
            raise Malformed(f"the body is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise Malformed("the body is not a JSON object")
    return data
