"""The sides of ``imagesync diff``, each read as an inventory.

Given what a user names (the local environment, a folder, a lock file or an image), ``find_sides`` returns one
side of a comparison.
"""
