"""The process that `workers/check_model.py` starts: tries one version, step by step, with little memory and time."""

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from workers.check_model import CPU_SECONDS, MEMORY_BYTES
from workers.manifest import read_manifest
from workers.model_file.reader import read_model
from workers.model_store import Release
from workers.schema import Schema


def _steps(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each step's name, and after it what was seen; what it raises is the problem."""
    yield "manifest", ""
    manifest = read_manifest(folder / "manifest.yaml")
    yield "sha256", f"template {manifest.template}, {len(manifest.columns)} columns"
    release = Release(manifest, folder, Schema(manifest.columns)).on_any_device()
    artifact = release.artifact()
    if manifest.container is None:
        yield "file", f"{len(artifact):,} bytes"
        file = read_model(artifact)
        by = ".".join(map(str, file.version))
        yield "signature", f"{file.objective}, {file.booster}, {file.rounds} rounds, saved by XGBoost {by}"
        if faults := file.faults(manifest):
            raise ValueError("\n".join(faults))
        yield "load", f"{file.features} features, {file.kind} with {file.width} numbers a row"
    else:
        yield "file", "no model file: its container predicts"
        yield "signature", "the container's"
        yield "load", "the container's"
    # Not before: a worker's libraries take a second to import.
    from workers.served import Served

    served = Served(release, artifact)
    served.warm_up()
    where = f"on {served.model.device}" if manifest.container is None else "in its container"
    yield "golden", f"{where}, by {served.model.libraries}"
    served.check_samples()
    yield "", "none" if manifest.golden is None else f"as in {manifest.golden.file}"


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        _, hard = resource.getrlimit(what)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (allowed, hard))


def main(folder: Path) -> None:
    """Print a line of JSON for each step that ends, the last one with its problems."""
    name = ""

    def tell(problems: list[str], seen: str = "") -> None:
        if name:
            print(json.dumps({"name": name, "problems": problems, "seen": seen}), flush=True)

    try:
        for upcoming, seen in _steps(folder):
            tell([], seen)
            name = upcoming
    # A file can bring about anything.
    except Exception as error:
        text = f"out of memory: {error}" if isinstance(error, MemoryError) else str(error) or repr(error)
        # XGBoost's errors go on with a native trace.
        lines = text.partition("\nStack trace")[0].splitlines()
        tell(lines)


if __name__ == "__main__":
    _limit()
    main(Path(sys.argv[1]))
