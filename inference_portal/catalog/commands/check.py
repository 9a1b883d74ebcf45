"""`manage.py model check`: whether versions can be served, each tried in a limited process of its own."""

from argparse import ArgumentParser
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from workers.check_model import STEPS, Report, check

HELP = "try versions before anybody asks them: manifest, sha256, model file, signature, loading, golden samples"
# What to do about a problem in each step.
ADVICE = {
    "manifest": "Correct the line that is named; docs/models.md has every key.",
    "sha256": "The file was changed after its manifest was written. Put the right one back, or make a version of this "
    "one: manage.py model import {file} {model}",
    "file": "Save the model again as UBJ with XGBoost and copy the whole file.",
    "signature": "Correct the manifest, or take the file that it was written for.",
    "load": "Don't release it: a worker that loads it fails in the same way.",
    "golden": "The model answers something else than is expected. Don't release it before you know why.",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("which", nargs="*", metavar="MODEL[/VERSION]", help="all of them without any")


def run(*, which: list[str], **options: object) -> None:
    """Check them one after the other and print what was found. Raises CommandError if there is a problem."""
    folders = [folder for each in which or ["*"] for folder in _folders(each)]
    wrong = 0
    for folder in folders:
        report = check(folder)
        _tell(folder, report, every_step=len(folders) == 1)
        wrong += not report.ok
    if wrong:
        raise CommandError(f"{wrong} of {len(folders)} can't be served.")
    if len(folders) == 1:
        model, version = folders[0].parts[-2:]
        print(f"It can be served. If it isn't the first version: manage.py model release {model} {version}")


def _folders(which: str) -> list[Path]:
    """Return the folders of a model's versions, or of the one that is named. Raises CommandError for none."""
    model, _, version = which.partition("/")
    found = list(settings.MODEL_STORE.glob(f"{model}/{version or '*'}/manifest.yaml"))
    if not found and which != "*":
        raise CommandError(
            f"There is no {which} in {settings.MODEL_STORE}; `manage.py model list` shows what there is."
        )
    return [path.parent for path in sorted(found, key=_place)]


def _place(manifest: Path) -> tuple[str, int]:
    version = manifest.parent.name
    return manifest.parent.parent.name, int(version) if version.isdecimal() else 0


def _tell(folder: Path, report: Report, *, every_step: bool) -> None:
    """Print what was found of one version: a line, or one for each step if there is a problem."""
    print(f"{'✓' if report.ok else '✗'} {folder.parent.name}/{folder.name}")
    for step in report.steps if every_step or not report.ok else ():
        found = "; ".join(step.problems) or step.seen
        print(f"  {'✗' if step.problems else '✓'} {step.name.ljust(max(map(len, STEPS)))}  {found}")
        if step.problems:
            print(f"    → {ADVICE[step.name].format(model=folder.parent.name, file=folder / 'model.ubj')}")
