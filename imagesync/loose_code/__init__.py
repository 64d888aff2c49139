"""Loose code: local modules that belong to no package, for the image.

In: the paths of the setting ``code`` and the scanned environment. Out: the files to copy, as a ``Code``
value and as an archive in the store, and findings about modules that the image would lack.
"""
