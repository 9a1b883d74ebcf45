"""The binary tensor extension of V2: raw tensors behind the JSON, little-endian and in the order of the JSON's list.

The header Inference-Header-Content-Length is the length of the JSON; a tensor's `parameters.binary_data_size` is its
own. BYTES are texts, each behind its length as 4 bytes. Source: the protocol's extension_binary_data.md by Triton.
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from workers.formats import Fault, Invalid, Malformed, as_float64

HEADER = "Inference-Header-Content-Length"
DTYPES = {"BOOL": "u1", "FP32": "<f4", "FP64": "<f8"}
DTYPES |= {
    f"{sign}INT{bits}": f"<{kind}{bits // 8}" for sign, kind in (("", "i"), ("U", "u")) for bits in (8, 16, 32, 64)
}
_LENGTH = struct.Struct("<I")


def split(body: bytes, header_length: int) -> tuple[bytes, bytes]:
    """Return the JSON and what follows it. Raises Malformed for a length beyond the body."""
    if header_length > len(body):
        raise Malformed(f"{HEADER} is {header_length}, but the body has {len(body):,} bytes")
    return body[:header_length], body[header_length:]


def read_numbers(datatype: str, raw: bytes, count: int, pointer: str) -> npt.NDArray[np.float64]:
    """Return `count` numbers as float64. Raises Invalid when there are more or fewer bytes."""
    dtype = np.dtype(DTYPES[datatype])
    if len(raw) != count * dtype.itemsize:
        needed = f"{count:,} values of {datatype} need {count * dtype.itemsize:,}"
        raise Invalid(Fault(pointer, f"{len(raw):,} bytes, but {needed}"))
    return as_float64(np.frombuffer(raw, dtype))


def read_texts(raw: bytes, count: int, pointer: str) -> list[str]:
    """Return `count` texts. Raises Invalid when there are more or fewer; what isn't UTF-8 becomes no valid text."""
    texts: list[str] = []
    at, end = 0, len(raw)
    while at + 4 <= end and len(texts) < count:
        (length,) = _LENGTH.unpack_from(raw, at)
        at += 4 + length
        if at > end:
            break
        texts.append(raw[at - length : at].decode(errors="surrogateescape"))
    if at != end or len(texts) != count:
        reason = f"expected {count:,} texts in {end:,} bytes, each behind its length as 4 bytes"
        raise Invalid(Fault(pointer, f"{reason}; they don't end there"))
    return texts


def encode(head: dict[str, Any], tensors: list[dict[str, Any]], binary: tuple[str, ...]) -> tuple[bytes, int]:
    """Return the body of an answer, and the length of its JSON. `binary` names the tensors to send as raw bytes."""
    outputs, parts = [], []
    for tensor in tensors:
        if tensor["name"] not in binary:
            outputs.append(tensor)
            continue
        parts.append(_raw(tensor))
        described = {key: tensor[key] for key in ("name", "datatype", "shape")}
        outputs.append(described | {"parameters": {"binary_data_size": len(parts[-1])}})
    text = orjson.dumps(head | {"outputs": outputs})
    return b"".join([text, *parts]), len(text)


def _raw(tensor: dict[str, Any]) -> bytes:
    if tensor["datatype"] != "BYTES":
        return np.array(tensor["data"], dtype=DTYPES[tensor["datatype"]]).tobytes()
    texts = [text.encode() for text in tensor["data"]]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
