"""The workers' Celery app: `celery -A workers.app worker -Q inference.cpu`."""

from celery import Celery

from workers.heartbeat import HeartbeatStep
from workers.settings import settings

# Without Celery's Django fixup, even where Django is installed and DJANGO_SETTINGS_MODULE set.
app = Celery("workers", set_as_current=False, fixups=set())
app.config_from_object(settings())
# Each message carries its model's time-out as its limit; this one is for what carries none.
app.conf.task_time_limit = 600
# (`gpu_pool` listens for the start of a worker.)
app.conf.imports = ("workers.tasks", "workers.gpu_pool")
app.steps["consumer"].add(HeartbeatStep)
