from __future__ import annotations

import json

from imagesync.image.layers.base_contents import CERTIFICATES, BaseContents
from imagesync.image.layers.compression import CompressionName
from imagesync.image.layers.layer_form import layer_form

BARE = BaseContents()
WITH_CERTIFICATES = BaseContents(present=frozenset({CERTIFICATES}))


def form(
    compression: CompressionName = "gzip",
    *,
    max_layers: int = 40,
    has_bytecode: bool = True,
    skips_scripts: bool = False,
    base: BaseContents = BARE,
) -> str:
    return layer_form(
        compression,
        max_layers=max_layers,
        has_bytecode=has_bytecode,
        skips_scripts=skips_scripts,
        base=base,
    )


def test_form_of_layers_is_another_for_each_thing_that_changes_their_bytes() -> None:
    forms = [
        form(),
        form("zstd"),
        form(max_layers=12),
        form(has_bytecode=False),
        form(skips_scripts=True),
        form(base=WITH_CERTIFICATES),
    ]
    assert len(set(forms)) == 6
    assert form() == form()


def test_certificates_count_only_where_the_base_has_none() -> None:
    assert json.loads(form())["certificates"].startswith("sha256:")
    assert json.loads(form(base=WITH_CERTIFICATES))["certificates"] == ""
