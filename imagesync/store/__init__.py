"""The cache folder: artifacts by their content, fetched once and shared between processes.

In go URLs and digests, out come verified files. The layout of the folder, leases of running processes, and
pruning are here too.
"""
