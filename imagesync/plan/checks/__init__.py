"""Checks of a plan and of its environment: consistency, files, source trees, drift.

In: a plan and the scanned environment. Out: findings and conflicts. Nothing is fetched or imported.
"""
