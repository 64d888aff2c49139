"""Installed files that aren't what the installer wrote.

In: an ``Environment``. Out: ``Modifications``, the packages whose files were edited, added or deleted since
their installation, and the files that belong to no package.
"""
