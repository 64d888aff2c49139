"""Inventories of Python environments, and their comparison.

Given a plan or a lock, ``planned`` returns the inventory of an environment or an image; given two sides,
``comparison`` returns one row for each package.
"""
