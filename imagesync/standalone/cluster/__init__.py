"""Programs for the schedulers and workers of a cluster.

They start Dask, report what an environment holds, and lay newer packages over it.
"""
