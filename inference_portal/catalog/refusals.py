"""Why a release, a rollback or a retirement is refused."""

from collections.abc import Sequence

from workers.golden import Difference


class ReleaseConflict(RuntimeError):
    """The model's traffic doesn't allow this now."""


class GoldenMissing(RuntimeError):
    """The version has no golden samples that can be read, so nothing proves it."""


class GoldenUnanswered(RuntimeError):
    """No worker has answered the golden samples."""


class GoldenMismatch(RuntimeError):
    """The version answers its golden samples with something else."""

    def __init__(self, differences: Sequence[Difference]) -> None:
        super().__init__(f"golden samples differ: {differences[0]}")
        self.differences = tuple(differences)


REFUSALS = (ReleaseConflict, GoldenMissing, GoldenUnanswered, GoldenMismatch)
