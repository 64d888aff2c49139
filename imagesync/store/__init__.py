"""The cache folder: artifacts by their content, fetched once and shared between processes.

Given URLs and digests, ``parallel_fetch`` returns verified files. The layout of the folder and pruning, which
spares the artifacts of running processes, are here too.
"""
