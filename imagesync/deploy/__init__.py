"""Configurations that start Dask elsewhere, in the image of an environment.

Given an image by digest and the shape of a cluster, ``configuration`` returns the text for a target such as
Kubernetes, and ``replace_image`` changes the image in an existing file.
"""
