"""Who else has to do something when jobs end, in the very transaction that ends them.

What comes later may never come: a process can die right after its commit. `jobs` knows none of them by name; their
apps put themselves on the list when Django starts.
"""

from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from django.db.models import Exists

# Is told of jobs that have just ended, whatever way, and returns those whose results it will still read.
OnFinal = Callable[[Sequence[UUID]], Collection[UUID]]

ON_FINAL: list[OnFinal] = []

# Of jobs that have ended, which of them somebody has still to do something with: those aren't forgotten yet.
STILL_NEEDED: list[Exists] = []


def tell_all(job_ids: Sequence[UUID]) -> set[UUID]:
    """Call all on the list. Returns the jobs whose results somebody still reads."""
    return {job_id for on_final in ON_FINAL for job_id in on_final(job_ids)} if job_ids else set()
