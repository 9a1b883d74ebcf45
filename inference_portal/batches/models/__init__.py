"""The tables: batches, their chunks, and what happened to them."""

from inference_portal.batches.models.batch import Batch, BatchQuerySet
from inference_portal.batches.models.chunk import Chunk
from inference_portal.batches.models.event import BatchEvent, Kind
from inference_portal.batches.schedules.models import Schedule, ScheduleRun

__all__ = ["Batch", "BatchEvent", "BatchQuerySet", "Chunk", "Kind", "Schedule", "ScheduleRun"]
