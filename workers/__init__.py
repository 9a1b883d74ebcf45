"""Celery workers that run models. They know nothing of Django, users or the database."""
