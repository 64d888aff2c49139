"""A container engine, Docker's or Podman's: images, containers and builds as typed values.

It knows nothing of Python environments. An :class:`~imagesync.engine.endpoint.Endpoint` goes in; images,
their labels and the output of containers come out.
"""
