"""Inventories of Python environments, and their comparison.

Given a plan or a lock, ``inventory`` returns the inventory of an environment or an image; given two sides,
``compare_sides`` returns one row for each package.
"""
