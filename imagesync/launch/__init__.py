"""Launching: commands, and later clusters, in containers of an environment's image."""
