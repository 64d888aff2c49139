"""Sdists."""
