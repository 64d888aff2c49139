"""Loose code: modules that no distribution owns, taken into the image with their data files."""
