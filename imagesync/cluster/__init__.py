"""Dask clusters in containers of an environment's image.

Given an image and options, ``DockerCluster`` and ``SwarmCluster`` start a scheduler and workers through the
engine and remove them with the process that made them. ``detached`` does so for clusters that outlive it,
``agreement/`` compares a running cluster with the local environment and synchronises it.
"""
