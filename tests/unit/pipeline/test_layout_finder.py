"""The Python of an image that no engine builds: the environment's own, but never in a lock."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.pipeline.context import Context
from imagesync.pipeline.environment_inputs import environment_inputs, planned_without_engine
from imagesync.pipeline.layout_finder import LayoutFinder
from imagesync.scan.environment import Environment, Interpreter
from imagesync.settings.model import Settings
from tests.progress import RecordedLines


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    folder = tmp_path / "cpython-3.12.1-linux-x86_64-gnu"
    folder.mkdir()
    (folder / "BUILD").write_text("20240107\n")
    python = Interpreter(
        *("cpython", "3.12.1", "linux-x86_64", "cp312", "/env/bin/python", "/env", str(folder), "glibc 2.36")
    )
    return Environment(python, ())


def test_without_an_engine_no_channels_python_is_planned(environment: Environment, tmp_path: Path) -> None:
    context = Context(Settings(profile="none", cache_dir=tmp_path / "cache"))
    inputs = environment_inputs(environment, context)
    for_engine = replace(inputs, plan=replace(inputs.plan, interpreter="conda"))
    assert planned_without_engine(for_engine).plan.interpreter == "base"
    of_base = replace(for_engine, context=replace(context, settings=Settings(python_source="base")))
    assert planned_without_engine(of_base) is of_base
    of_system = replace(environment, python=replace(environment.python, base_prefix="/usr"))
    assert planned_without_engine(replace(for_engine, environment=of_system)).plan.interpreter == "conda"


def test_lock_is_for_the_base_images_python(environment: Environment, tmp_path: Path) -> None:
    lines = RecordedLines()
    settings = Settings(
        profile="none",
        cache_dir=tmp_path / "cache",
        builder="oci",
        base="registry.test/python:3.12",
        target_python="3.12.9",
        target_glibc="2.36",
    )
    context = Context(settings, progress=lines)
    plan = environment_inputs(environment, context).plan
    with closing(LayoutFinder(context)) as finder:
        assert finder.base_to_lock_for(plan).python_version == "3.12.9"
    assert not [line for line in lines.lines if "own Python" in line]
