"""Reading a JSON body, and choosing between the two JSON formats by what is in it."""

import json
from collections import Counter
from typing import Any

import orjson

from workers.formats import Decoded, Fault, Invalid, Limits, Malformed, json_instances, json_v2, shown
from workers.model_store import Release


def decode(release: Release, body: bytes, limits: Limits) -> Decoded:
    """Decode a V2 request or plain instances. Raises Malformed, Invalid, TooLarge, Unavailable."""
    data = read_object(body)
    if "inputs" in data and "instances" in data:
        raise Invalid(Fault("/instances", "expected either 'inputs' or 'instances', not both"))
    if "inputs" in data:
        return json_v2.decode(release, data, limits)
    if "instances" in data:
        return json_instances.decode(release, data["instances"], limits, outputs=data.get("outputs"))
    raise Invalid(Fault("", "expected 'inputs' (V2 tensors) or 'instances' (rows)"))


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`. Raises Malformed, Invalid for a key that is twice in one object."""
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
    # Each key is followed by a colon: as many colons as keys, and none was lost. Else some may also stand in texts.
    if body.count(b":") != _count_keys(data):
        _refuse_repeated_keys(body)
    return data


def _count_keys(data: dict[str, Any]) -> int:
    """Return how many keys there are where a request has some: at the top, in each row or tensor, its parameters."""
    objects = [data]
    for value in data.values():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            objects += [item for item in value if isinstance(item, dict)]
    parameters = [each["parameters"] for each in objects if "parameters" in each]
    return sum(map(len, objects)) + sum(len(each) for each in parameters if isinstance(each, dict))


def _refuse_repeated_keys(body: bytes) -> None:
    """Raise Invalid for a key that is twice in one object: parsers keep one of its values and say nothing."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        if len(pairs) > 1 and len({name for name, _ in pairs}) < len(pairs):
            name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise Invalid(Fault("", f"the key '{shown(name)}' is twice in one object"))

    try:
        # As floats, which may have any number of digits; the values don't matter.
        json.loads(body, object_pairs_hook=check, parse_int=float)
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error
