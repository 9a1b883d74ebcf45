"""What a step is asked to do, as the portal wrote it: keys that aren't known are left alone."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.datasets import DatasetError

Count = Annotated[int, Field(ge=0)]
Format = Literal["parquet", "csv"]
# A batch's folder: only in the system's own storage, as parts are written and removed there without asking.
Folder = Annotated[str, Field(pattern=r"^store://batches/[0-9A-Za-z-]+$")]
# Which run of the batch it is: its parts are apart from those of others.
RunName = Annotated[str, Field(pattern=r"^[0-9A-Za-z-]+$", coerce_numbers_to_str=True)]


class Work(BaseModel):
    """The base of each step's work."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, asked: Any) -> Self:
        """Return the work. Raises DatasetError with the key that is wrong."""
        try:
            return cls.model_validate(asked)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise DatasetError(f"the step's work can't be understood: {where}: {first['msg']}") from error
