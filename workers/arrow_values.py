"""From one Arrow array to numbers: what the wire formats and the data sets share."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from workers.schema import UNKNOWN


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a column of numbers takes the type."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column of categories takes the type: texts, plain or as a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def codes(array: pa.Array, categories: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return each text's position in the categories, NaN for null, UNKNOWN for all others.

    All by Arrow: a dictionary may hold millions.
    """
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan, dtype=np.float32)
    texts = array.dictionary if pa.types.is_dictionary(array.type) else array
    known = pa.array(categories, texts.type)
    found = pc.index_in(texts, value_set=known).cast(pa.float32()).fill_null(UNKNOWN)
    found = pc.if_else(texts.is_null(), pa.scalar(np.nan, pa.float32()), found)
    if texts is not array:
        found = found.take(array.indices)
    # A null among the indices becomes NaN here.
    result: npt.NDArray[np.float32] = found.to_numpy(zero_copy_only=False)
    return result
