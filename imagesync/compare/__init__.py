"""Comparing environments: what each side holds, and where two sides differ."""
