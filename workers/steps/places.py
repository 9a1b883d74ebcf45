"""Where a batch keeps what it makes, inside its folder."""


def work_folder(folder: str, run: str) -> str:
    """Return the folder of one run's parts."""
    return f"{folder}/work/{run}"


def part(folder: str, run: str, number: int, kind: str) -> str:
    """Return the place of a chunk's predictions; `kind` is that of the part, not of the output."""
    return f"{work_folder(folder, run)}/part-{number:06d}.{kind}"


def errors_part(folder: str, run: str, number: int) -> str:
    """Return the place of a chunk's failed rows."""
    return f"{work_folder(folder, run)}/errors-{number:06d}.csv"


def spool(folder: str) -> str:
    """Return the place for what has to be unpacked before it can be read in ranges."""
    return f"{folder}/work/spool"


def note(folder: str) -> str:
    """Return the place of the note about what was merged; it outlives the parts."""
    return f"{folder}/merged.json"
