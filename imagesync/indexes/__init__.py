"""Indexes and channels: the configuration of pip, uv, pixi, poetry, PDM and conda.

Configuration files and environment variables go in; URLs of indexes and channels come out, with credentials.
"""
