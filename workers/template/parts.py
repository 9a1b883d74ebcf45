"""What the parts of a manifest have in common."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

FLOAT32_MAX = 3.4028234663852886e38

Name = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
SinkName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,50}$")]
# One line without control characters, in a form that JSON Schema's readers know; pydantic itself keeps out lone
# surrogates, which no JSON answer could carry.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,200}$")]
# `version: 1` is a number in YAML; a folder's name is text.
Version = Annotated[
    str,
    Field(pattern=r"^[1-9][0-9]{0,8}$"),
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
                {"type": "integer", "minimum": 1, "maximum": 999_999_999},
            ]
        }
    ),
]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}$")]
# What float32 holds; NaN and infinity are no numbers here.
Number = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX, allow_inf_nan=False)]


class Part(BaseModel):
    """A part of the manifest: unknown keys are errors, so that a typing error is found and not ignored."""

    # The text below a key is its description in the JSON Schema, which editors show.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
