"""Celery: the app, its tasks, its transport and its bootsteps."""
