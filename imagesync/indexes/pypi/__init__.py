"""Pypi."""
