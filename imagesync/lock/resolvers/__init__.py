"""Resolvers for Python packages: uv and pip-tools behind one protocol, with a cache of their answers.

In: a ``ResolutionRequest``. Out: the locked packages that satisfy it, from the user's indexes.
"""
