"""The image of an environment: its base, its Dockerfile and build context, and the check of the result.

A lock and its artifacts go in; an :class:`~imagesync.image.built_image.Image` in the engine comes out.
"""
