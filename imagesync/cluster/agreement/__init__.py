"""Comparing a running cluster with the local environment, and synchronising it.

Given a connected Dask client, ``check`` returns a comparison of all packages, and ``sync`` sends wheels and
loose code that differ.
"""
