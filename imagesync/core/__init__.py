"""Core: what every room may use; it knows nothing of packages, images or engines.

Progress and text for a person, names and references, files and caches, TLS, platforms.
"""
