"""How a manifest of an older template is read: step by step, each from one template to the next.

A step gets the YAML's data, which nobody has checked yet, and changes nothing but keys that have their old form.
"""

from collections.abc import Callable
from typing import Any

TEMPLATE = 2


def _from_1(data: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of template 1 as one of 2: `golden` was the name of the file alone."""
    golden = data.get("golden")
    return data | {"golden": {"file": golden}} if isinstance(golden, str) else data


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data as the present template has it. An unknown template is left as it is, to be refused."""
    template = data.get("template")
    while type(template) is int and template in STEPS:
        data = STEPS[template](data)
        template += 1
        data = data | {"template": template}
    return data
