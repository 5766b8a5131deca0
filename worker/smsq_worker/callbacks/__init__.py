"""Callbacks: report to endpoints how a message ended, by task, webhook or return URL."""
