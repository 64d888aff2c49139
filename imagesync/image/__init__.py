"""The image of an environment: its base, its Dockerfile and build context, and the check of the result.

A lock and the artifacts it names go in; an :class:`~imagesync.image.image.Image` in the engine comes out.
"""
