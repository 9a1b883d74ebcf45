"""The portal's Celery app: recorder and beat. `celery -A inference_portal.celery worker -Q results.recorder`."""

import os

from celery import Celery
from celery.schedules import crontab

from workers.settings import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inference_portal.settings")
# Celery would run Django's checks, which load every page and route, and not look at what they say.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

app = Celery("inference_portal")
app.config_from_object(settings())
app.conf.imports = ("inference_portal.jobs.tasks", "inference_portal.batches.schedules.tasks")
# Celery closes the database connection around every task otherwise (12.5 ms of CPU a job); one that died is replaced
# by `jobs.tasks.once_the_database_answers`.
app.conf["CELERY_DB_REUSE_MAX"] = 1_000_000_000
# Flower shows what workers do. That each of their results was recorded would be as much again to publish and to show.
app.conf.worker_send_task_events = False
app.conf.beat_scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
app.conf.beat_schedule = {
    "clear-sessions": {"task": "portal.clear_sessions", "schedule": crontab(hour=3, minute=17)},
    # What is due is in the database: a tick only says "look", and one too many or too few does no harm.
    "schedules-tick": {"task": "portal.schedules_tick", "schedule": 5.0},
}
