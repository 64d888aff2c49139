"""The form of an image's layers: what changes their bytes, and isn't in the environment hash.

Whoever looks for an image by its hash compares the form, too, so that a changed setting takes effect.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imagesync.core.digests import sha256_of
from imagesync.image.layers.base_contents import CERTIFICATES
from imagesync.image.layers.compression import CompressionName, compression_of
from imagesync.image.layers.system import certificates

if TYPE_CHECKING:
    from imagesync.image.layers.base_contents import BaseContents


def layer_form(
    compression: CompressionName,
    *,
    max_layers: int,
    has_bytecode: bool,
    skips_scripts: bool,
    base: BaseContents,
) -> str:
    """Return the form of the layers that are made now, as a label has it.

    Parameters
    ----------
    compression, max_layers
        The settings.
    has_bytecode
        Whether there is an interpreter that compiles bytecode.
    skips_scripts
        Whether post-link scripts of conda packages may be left out.
    base
        Gets certificates where it has none.
    """
    added = "" if CERTIFICATES in base.present else sha256_of(certificates())
    form = {
        "bytecode": has_bytecode,
        "certificates": added,
        "compression": compression_of(compression).identity,
        "max-layers": max_layers,
        **({"skip-scripts": True} if skips_scripts else {}),
    }
    return json.dumps(form, sort_keys=True)
