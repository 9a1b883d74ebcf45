"""What the dispatcher does for batches between its steps."""

from inference_portal.batches.advance import advance, resume
from inference_portal.batches.retention import forget
from inference_portal.batches.watch import watch
from inference_portal.jobs.dispatch import Chore

# What has ended is counted, and what waits is sent: there are always many chunks ahead.
ADVANCE_SECONDS = 0.5
# After something has changed: a plan, the last of the chunks and a merge are what a batch waits for.
RESUME_SECONDS = 0.02
WATCH_SECONDS = 2.0
CHORES = (
    Chore(resume, ADVANCE_SECONDS, soon=RESUME_SECONDS),
    Chore(advance, ADVANCE_SECONDS),
    Chore(watch, WATCH_SECONDS),
    Chore(forget),
)
