"""Where an image is: in a registry, a folder, an archive or an engine, in the grammar of skopeo.

Source: containers-transports(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from imagesync.core.image_reference import check_reference
from imagesync.errors import UsageError

Transport = Literal["registry", "oci", "oci-archive", "docker-archive", "docker-daemon"]
_TRANSPORTS: Final[Mapping[str, Transport]] = {
    "oci": "oci",
    "oci-archive": "oci-archive",
    "docker-archive": "docker-archive",
    "docker-daemon": "docker-daemon",
}
# A colon in a path ends it, but for that of a Windows drive.
_PATH = re.compile(r"(?P<path>(?:[A-Za-z]:[\\/])?[^:]+)(?::(?P<name>.+))?")


@dataclass(frozen=True)
class ImageLocation:
    """The place of an image.

    Parameters
    ----------
    transport
        How it is reached.
    path
        The folder or the archive; the reference for a registry and an engine.
    name
        The image's name in the folder or the archive; empty if none was written.
    """

    transport: Transport
    path: str
    name: str = ""

    def __str__(self) -> str:
        prefix = "" if self.transport == "registry" else f"{self.transport}:"
        return f"{prefix}{self.path}" + (f":{self.name}" if self.name else "")


def parse_location(text: str, *, given_as: str) -> ImageLocation:
    r"""Return the location that *text* names; a text without a transport is a reference.

    Parameters
    ----------
    given_as
        The option or setting that it comes from, such as ``--base``.

    Raises
    ------
    UsageError
        It names none.

    >>> parse_location("oci:images/base:1.0", given_as="--base")
    ImageLocation(transport='oci', path='images/base', name='1.0')
    >>> parse_location("ubuntu:24.04", given_as="--base")
    ImageLocation(transport='registry', path='ubuntu:24.04', name='')
    >>> parse_location(r"oci:C:\\images\\base", given_as="--base").path
    'C:\\\\images\\\\base'
    """
    prefix, _, rest = text.partition(":")
    transport = _TRANSPORTS.get(prefix)
    # A number is the tag of an image with that name.
    if transport is None or rest.replace(".", "").isdigit():
        check_reference(text, given_as=given_as)
        return ImageLocation("registry", text)
    if transport == "docker-daemon":
        check_reference(rest, given_as=given_as)
        return ImageLocation("docker-daemon", rest)
    match = _PATH.fullmatch(rest)
    if match is None:
        kind, example = ("folder", "images/env:latest") if transport == "oci" else ("file", "env.tar")
        raise UsageError(
            f"{given_as}: {text!r} names no {kind}.", hint=f"It takes one like '{transport}:{example}'."
        )
    return ImageLocation(transport, match["path"], match["name"] or "")
