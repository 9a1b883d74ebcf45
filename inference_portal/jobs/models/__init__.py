"""The tables: jobs, their failed attempts, workers, parked messages, sums for each model, and the audit log."""

from inference_portal.jobs.models.attempt import Attempt
from inference_portal.jobs.models.audit import Action, AuditEntry
from inference_portal.jobs.models.job import RELAY, Job, JobQuerySet, Priority
from inference_portal.jobs.models.parked import ParkedMessage
from inference_portal.jobs.models.statistics import ModelStatistics
from inference_portal.jobs.models.worker import WORKER_SILENCE, Worker

__all__ = [
    "RELAY",
    "WORKER_SILENCE",
    "Action",
    "Attempt",
    "AuditEntry",
    "Job",
    "JobQuerySet",
    "ModelStatistics",
    "ParkedMessage",
    "Priority",
    "Worker",
]
