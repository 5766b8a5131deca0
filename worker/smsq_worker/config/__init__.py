"""All settings, from the environment; they import no service."""
