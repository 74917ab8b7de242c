"""The worker: Celery claims a job's id, and one attempt trains, reports and publishes it."""
