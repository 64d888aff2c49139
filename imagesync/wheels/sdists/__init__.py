"""Wheels of packages that an index has as an sdist only, built here or in a container.

In: sdists in the store. Out: wheels in the store, or installed files for what can't be built.
"""
