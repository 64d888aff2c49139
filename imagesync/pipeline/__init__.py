"""The build pipeline: from the inputs of a build, an environment or a lock file, to an image.

In: ``BuildInputs`` and the ``Context`` of a command. Out: the ``Image`` with their environment hash, found in
the engine or in a registry, or else built from artifacts that are fetched or made here.
"""
