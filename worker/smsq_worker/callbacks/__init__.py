"""Callbacks: report to receivers how a message ended, by task, webhook or return URL."""
