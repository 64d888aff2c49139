"""Configurations that start Dask elsewhere, in the image of an environment."""
