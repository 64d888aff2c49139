"""Scanning: what is installed in an environment, and where each package came from."""
