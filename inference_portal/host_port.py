"""Addresses to listen on, as settings have them."""

import re

_ADDRESS = re.compile(r"(?P<host>[^\s:/@\[\]]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})")


def host_and_port(text: str) -> tuple[str, int]:
    """Return the parts of `host:port`; an IPv6 address stands in brackets. Raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ValueError(f"{text!r} is not of the form host:port")
    return found["host"].strip("[]"), int(found["port"])
