"""OCI registries over HTTP, without an engine; nothing here knows of Python environments.

Given an image reference, ``registry`` returns a digest or a configuration, or checks the permission to push.
"""
