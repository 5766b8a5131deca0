"""A message on its way to the gateway: check, admit, submit, record. Knows no Celery."""
