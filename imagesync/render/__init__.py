"""Rendering: a build context from templates, the lock and the wheels."""
