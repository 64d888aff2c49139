"""The variables that activation scripts of conda packages set, as variables of the image.

A container needn't start with a shell: an exec form entry point, ``docker exec`` or a Kubernetes ``command``
gets only the image's variables. The variables of a script are known once it has run in the built
environment, so they are added to the image afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from imagesync.engine.build_context import BuildRequest, dockerfile_quote

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.engine.engine import Engine

ACTIVE: Final = "CONDA_SHLVL"
"""The variable by which conda, and the image's entry point, recognise an activated environment."""
_REPOSITORY = "imagesync-activated"
# Variables of a container or of its user.
_EXCLUDED = frozenset({"HOSTNAME", "HOME", "USER", "TERM"})
_UNPRINTABLE = re.compile(r"[\0-\x1f]")


def image_variables(variables: Mapping[str, str]) -> dict[str, str]:
    r"""Return the variables of an activated environment that an image can have.

    A Dockerfile can't express line breaks. If a value has some, the environment doesn't count as activated,
    and the entry point will run the scripts.

    >>> image_variables({"GDAL_DATA": "/opt/env/share/gdal", "CONDA_SHLVL": "1", "HOSTNAME": "b5e6"})
    {'CONDA_SHLVL': '1', 'GDAL_DATA': '/opt/env/share/gdal'}
    >>> image_variables({"BANNER": "two\nlines", "CONDA_SHLVL": "1"})
    {}
    """
    wanted = {name: value for name, value in sorted(variables.items()) if name not in _EXCLUDED}
    possible = {name: value for name, value in wanted.items() if not _UNPRINTABLE.search(value)}
    if len(possible) < len(wanted):
        possible.pop(ACTIVE, None)
    return possible


def with_variables(engine: Engine, image_id: str, variables: Mapping[str, str], *, progress: Progress) -> str:
    """Return the ID of an image that has further variables; *image_id* itself if there are none.

    Raises
    ------
    BuildError
        The engine can't make it.
    """
    added = image_variables(variables)
    if not added:
        return image_id
    # Not every engine takes an ID in FROM.
    reference = f"{_REPOSITORY}:{image_id.removeprefix('sha256:')[:16]}"
    lines = [f"FROM {reference}", *(f"ENV {name}={dockerfile_quote(value)}" for name, value in added.items())]
    engine.tag(image_id, reference)
    try:
        request = BuildRequest(network="none")
        return engine.build_dockerfile("\n".join(lines) + "\n", request, progress=progress)
    finally:
        engine.remove(reference)
