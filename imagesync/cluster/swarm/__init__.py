"""Dask clusters in services of a Docker Swarm.

Given an image in a registry and options, ``SwarmCluster`` starts one service for the scheduler and one for
each worker.
"""
