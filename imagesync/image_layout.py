"""Where things are in the image: what templates, bytecode and the check of the image agree on."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

PREFIX: Final = PurePosixPath("/opt/env")
HOME: Final = PurePosixPath("/home/imagesync")
USER: Final = "1000:1000"
INVENTORY: Final = PREFIX / "share" / "imagesync" / "environment.json"
CODE: Final = PREFIX / "code"
PYTHON: Final = PREFIX / "bin" / "python"


def site_packages(minor: str) -> PurePosixPath:
    """Return the folder of the image's packages.

    Parameters
    ----------
    minor
        The feature version, such as ``3.12``.

    >>> str(site_packages("3.12"))
    '/opt/env/lib/python3.12/site-packages'
    """
    return PREFIX / "lib" / f"python{minor}" / "site-packages"
