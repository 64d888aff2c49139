"""Locking conda packages: from installed records, or solved for another platform.

In: the conda packages of a plan and the user's channels. Out: an archive with its digest for each package,
and deviations. On the image's own platform no channel is asked.
"""
