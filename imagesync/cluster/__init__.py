"""Dask clusters in containers of an environment's image."""
