"""The step `clean`: remove what a batch needed on its way."""

from typing import Any

from workers.datasets.place import remove_tree
from workers.steps.work import Folder, Work


class Clean(Work):
    """Whose parts are removed, or the whole folder with its output."""

    folder: Folder
    everything: bool = False


def run(work: dict[str, Any]) -> dict[str, Any]:
    """Remove the parts, if they are still there; output and errors stay, unless everything goes.

    Raises DatasetError, Unreachable.
    """
    asked = Clean.read(work)
    remove_tree(asked.folder if asked.everything else f"{asked.folder}/work")
    return {}
