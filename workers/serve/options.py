"""What the command line says, on its way to the process that serves."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Options:
    """The release to serve, how many predictions run at once, and which hosts may be told of a task's end."""

    model: str
    version: str
    threads: int
    webhook_hosts: tuple[str, ...]

    def to_json(self) -> str:
        """Return them as text."""
        return json.dumps(asdict(self))

    @classmethod
    def of_environment(cls) -> Self:
        """Return those that `python -m workers.serve` has left."""
        data = json.loads(os.environ["SERVE_OPTIONS"])
        return cls(**data | {"webhook_hosts": tuple(data["webhook_hosts"])})
