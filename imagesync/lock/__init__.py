"""Locking: the exact artifact, with its sha256, of each package for the target."""
