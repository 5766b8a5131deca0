"""smsq in a Django project: `"smsq.contrib.django"` in INSTALLED_APPS."""
