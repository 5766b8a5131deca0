"""Telling others how a message ended: tasks, webhooks and return URLs."""
