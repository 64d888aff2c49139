"""Explaining conflicts: a minimal set of contradicting constraints, and the smallest remedies.

In: constraints, and a function that tells whether a set of them can be solved. Out: an error that explains
it.
"""
