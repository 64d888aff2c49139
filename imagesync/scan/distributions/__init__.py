"""Installed distributions: metadata folders, eggs, editables, duplicates.

Folders of ``sys.path`` go in; packages with their sources, and findings, come out.
"""
