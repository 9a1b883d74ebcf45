"""What an answer is made of, whatever its format."""

from dataclasses import dataclass
from typing import Any, Self

import orjson


@dataclass(frozen=True, slots=True)
class Answer:
    """The outputs of one job that were asked for, as V2 tensors in JSON text, and what the answer says about them.

    `format` is the one of the request (`Decoded.format`), `binary` names the outputs that V2 sends as raw bytes.
    """

    model: str
    version: str
    id: str
    format: str
    outputs: bytes
    binary: tuple[str, ...] = ()

    @classmethod
    def of(cls, reply: dict[str, Any], *, model: str, version: str, job_id: str, outputs: bytes) -> Self:
        """Return the answer to a request whose `Decoded.reply` was kept; `outputs` are all that the worker recorded."""
        if wanted := reply.get("outputs"):
            by_name = {tensor["name"]: tensor for tensor in orjson.loads(outputs)}
            outputs = orjson.dumps([by_name[name] for name in wanted])
        binary = tuple(reply.get("binary") or ())
        return cls(model, version, reply.get("id") or job_id, reply["format"], outputs, binary)

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """Return the outputs as a list of {"name", "datatype", "shape", "data"}; None in the data of floats is NaN."""
        tensors: list[dict[str, Any]] = orjson.loads(self.outputs)
        return tensors
