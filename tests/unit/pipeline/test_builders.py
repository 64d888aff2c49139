"""Which builder the settings choose, and what is refused before an environment is scanned."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.errors import UsageError
from imagesync.pipeline.builders import builder_of_settings
from imagesync.pipeline.context import Context
from imagesync.pipeline.outputs import parse_output
from imagesync.session import Session
from imagesync.settings.model import Settings

LAYOUT = Settings(base="oci:base")
CONTAINER = Settings(apt=("libgl1",))


@pytest.mark.parametrize(
    ("settings", "outputs", "several", "builder"),
    [
        (Settings(), (), False, "auto"),
        (Settings(), ("registry",), False, "auto"),
        (Settings(), ("docker",), False, "docker"),
        (Settings(), ("docker", "oci:images"), False, "oci"),
        (Settings(), (), True, "oci"),
        (CONTAINER, (), True, "auto"),
        (CONTAINER, ("docker",), True, "docker"),
        (LAYOUT, ("docker",), False, "oci"),
        (Settings(builder="docker", base="oci:base"), ("oci:images",), True, "docker"),
        (Settings(builder="oci"), ("docker",), False, "oci"),
    ],
)
def test_settings_and_outputs_decide_what_builds(
    settings: Settings, outputs: tuple[str, ...], several: bool, builder: str
) -> None:
    parsed = tuple(map(parse_output, outputs))
    assert builder_of_settings(settings, parsed, is_one_of_several=several) == builder


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
