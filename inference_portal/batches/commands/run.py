"""`manage.py batch run`: predict a whole data set, and watch how it goes."""

from argparse import ArgumentParser
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from inference_portal.batches import asked, fields
from inference_portal.batches.commands import acting, watch
from inference_portal.batches.uploads import CHUNK_BYTES, TooManyBytes, receiving
from workers.datasets import Unreachable

HELP = "predict a data set: store://, file:// or s3://, or a file of this machine, which is uploaded first"
# The options that are fields of a batch, and of its input and output.
_FIELDS = ("version", "chunk_rows", "retry_policy", "max_attempts", "error_threshold", "deadline")
_INPUT = {"input_format": "format", "delimiter": "delimiter", "quote": "quote", "encoding": "encoding"}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("model")
    parser.add_argument("input", help="where the data set is")
    parser.add_argument("--version", dest="version", help="of the model; without it the one that takes the traffic")
    parser.add_argument("--output", help="where the predictions go; without it into the system's own storage")
    parser.add_argument("--format", choices=asked.FORMATS, help="of the output (default: parquet)")
    parser.add_argument("--keep", metavar="COLUMN", action="append", default=[], help="a column for the output; again")
    parser.add_argument("--input-format", choices=fields.INPUT_FORMATS, help="default: by the name")
    parser.add_argument("--delimiter", help="of CSV")
    parser.add_argument("--quote", help="of CSV")
    parser.add_argument("--encoding", help="of CSV")
    parser.add_argument("--no-header", action="store_true", help="the CSV has none: its columns are the model's")
    parser.add_argument("--chunk-rows", type=int)
    parser.add_argument("--retry-policy", choices=fields.POLICIES, help="what runs again after a failure")
    parser.add_argument("--max-attempts", type=int)
    parser.add_argument("--error-threshold", type=float, help="the share of rows that may fail, from 0 to 1")
    parser.add_argument("--deadline", help="such as 2027-01-31T06:00:00+01:00")
    parser.add_argument("--team", help="whose batch it is; needed where there are several teams")
    parser.add_argument("--detach", action="store_true", help="don't watch it")


def run(*, model: str, input: str, team: str | None, detach: bool, **options: object) -> None:
    """Begin, print the id, and watch. Raises CommandError for what is refused, and for a batch that fails."""
    owner = acting.team_named(team)
    caller = acting.operator(owner.pk)
    with acting.refusals_told():
        data_set = {name: options[option] for option, name in _INPUT.items()} | {"uri": _uri(input, owner.pk)}
        asked_for = {name: options[name] for name in _FIELDS} | {
            "model": model,
            "input": data_set | ({"header": False} if options["no_header"] else {}),
            "output": {"uri": options["output"], "format": options["format"]},
            "keep_columns": options["keep"],
        }
        batch = fields.submit(asked_for, caller)
    print(batch.id)
    if not detach:
        watch.watch(batch)


def _uri(place: str, team_id: int) -> str:
    """Return where it is; a file of this machine is uploaded."""
    if "://" in place:
        return place
    path = Path(place)
    if not path.is_file():
        raise CommandError(f"{place} is no file of this machine, and has no scheme such as file://.")
    try:
        with (
            path.open("rb") as file,
            receiving(team_id=team_id, name=path.name, most=settings.MAX_UPLOAD_BYTES) as upload,
        ):
            while part := file.read(CHUNK_BYTES):
                upload.write(part)
    except Unreachable:
        raise
    except (TooManyBytes, OSError) as error:
        raise CommandError(str(error)) from error
    return upload.uri
