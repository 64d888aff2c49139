"""Activation: what the scripts of conda packages set, as variables of the image.

A container needn't start with a shell: an exec form entry point, ``docker exec`` or a Kubernetes ``command``
has the image's variables and nothing else. What a script sets is known only after it was run, and that needs
the environment; so the variables come onto the image once it is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from imagesync.engine.dockerfile_syntax import dockerfile_quote
from imagesync.engine.engine import BuildRequest
from imagesync.image.context import ContextFile, stream_files

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.engine.engine import Engine

ACTIVE: Final = "CONDA_SHLVL"
"""The variable by which conda, and the image's entry point, know an activated environment."""
_REPOSITORY = "imagesync-activated"
# What a container or its user has, and no image should.
_OF_CONTAINERS = frozenset({"HOSTNAME", "HOME", "USER", "TERM"})
_UNPRINTABLE = re.compile(r"[\0-\x1f]")


def bake(variables: Mapping[str, str]) -> dict[str, str]:
    r"""Return those of *variables* that an image can have.

    Where one has line breaks, which a Dockerfile can't hold, the environment doesn't count as activated:
    the entry point will run the scripts.

    >>> bake({"GDAL_DATA": "/opt/env/share/gdal", "CONDA_SHLVL": "1", "HOSTNAME": "b5e6"})
    {'CONDA_SHLVL': '1', 'GDAL_DATA': '/opt/env/share/gdal'}
    >>> bake({"BANNER": "two\nlines", "CONDA_SHLVL": "1"})
    {}
    """
    wanted = {name: value for name, value in sorted(variables.items()) if name not in _OF_CONTAINERS}
    baked = {name: value for name, value in wanted.items() if not _UNPRINTABLE.search(value)}
    if len(baked) < len(wanted):
        baked.pop(ACTIVE, None)
    return baked


def with_variables(engine: Engine, image_id: str, variables: Mapping[str, str], *, progress: Progress) -> str:
    """Return the ID of an image that is *image_id* with further variables; without any it is the same.

    Raises
    ------
    BuildError
        The engine can't make it.
    """
    baked = bake(variables)
    if not baked:
        return image_id
    # Not every engine takes an ID in FROM.
    reference = f"{_REPOSITORY}:{image_id.removeprefix('sha256:')[:16]}"
    lines = [f"FROM {reference}", *(f"ENV {name}={dockerfile_quote(baked[name])}" for name in baked)]
    content = ("\n".join(lines) + "\n").encode()
    files = (ContextFile("Dockerfile", content, len(content)),)
    engine.tag(image_id, reference)
    try:
        return engine.build(stream_files(files), BuildRequest(network="none"), progress=progress)
    finally:
        engine.remove(reference)
