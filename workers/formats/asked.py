"""The outputs that a request asks for by name."""

from collections.abc import Iterable

from workers.formats import Fault, Invalid
from workers.manifest import Manifest
from workers.schema import MAX_FAULTS
from workers.template.output import CONTRIBUTIONS


def check_asked(manifest: Manifest, wanted: Iterable[tuple[str, object]], rows: int) -> None:
    """Check names that were asked for, each with its JSON pointer, of a request of so many rows.

    Raises Invalid for a name that is no output, and for contributions of more rows than the manifest allows.
    """
    known = [tensor.name for tensor in manifest.offered]
    most = manifest.explanations.max_rows if manifest.explanations else 0
    faults = []
    for pointer, name in wanted:
        if name not in known:
            faults.append(Fault(pointer, f"expected an output's name: {', '.join(known)}"))
        elif name == CONTRIBUTIONS and rows > most:
            faults.append(Fault(pointer, f"contributions are for up to {most:,} rows a request, this one has {rows:,}"))
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
