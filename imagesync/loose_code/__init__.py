"""Loose code."""
