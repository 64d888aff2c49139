"""Core: modules that every room may use; they know nothing of packages, images or engines.

Progress and text for a person, names and references, files and caches, TLS, platforms.
"""
