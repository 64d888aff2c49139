"""What is refused before an environment is scanned: places that the chosen builder can't take or write."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.errors import UsageError
from imagesync.pipeline.context import Context
from imagesync.session import Session
from imagesync.settings.model import Settings


def test_context_needs_a_base_image_that_an_engine_can_have(tmp_path: Path) -> None:
    settings = Settings(builder="oci", base="docker-archive:/base.tar", cache_dir=tmp_path)
    with pytest.raises(UsageError, match="outside of the engine") as refused:
        Session(Context(settings)).render(tmp_path / "context")
    assert "--builder oci" in (refused.value.hint or "")
    assert not (tmp_path / "context").exists()


def test_output_registry_needs_a_registry_in_the_name(tmp_path: Path) -> None:
    session = Session(Context(Settings(builder="oci", cache_dir=tmp_path)))
    with pytest.raises(UsageError, match="names no registry"):
        session.build(outputs=("registry",))
