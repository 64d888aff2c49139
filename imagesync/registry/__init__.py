"""OCI images in registries, layouts and archives, without an engine; nothing knows of Python environments.

An :class:`~imagesync.registry.oci_image.OCIImage` is a manifest, a configuration and a source of layers.
``image_source`` resolves one from anywhere, ``oci_layout`` and ``archive`` store it, ``push`` sends it, and
``artifacts`` keeps documents beside it.
"""
