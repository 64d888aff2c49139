"""Where the Python of a pip environment's image comes from, and for how long a channel's answer holds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.image.conda.conda_python import REMEMBERED, SILENCE_REMEMBERED, ChosenPython, choose_python
from imagesync.lock.conda.channels import Channels
from imagesync.lock.make_lock import python_deviation
from imagesync.pipeline.artifact_sources import open_channels
from imagesync.pipeline.context import Context
from imagesync.plan.make_plan import make_plan
from imagesync.scan.environment import Environment, Interpreter, Package
from imagesync.settings.model import Settings

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")
TOOLZ = Package(name=canonicalize_name("toolz"), version="1.0.0", location="/env/site-packages")
ENVIRONMENT = Environment(PYTHON, (TOOLZ,))
SILENT = "http://127.0.0.1:9/nobody"
Choose = Callable[..., ChosenPython]


def make_channel(folder: Path, *versions: str) -> str:
    """Return the URL of a channel with these versions of Python, whose archives nobody fetches."""
    packages = {
        f"python-{version}-h0_0.conda": {
            "name": "python",
            "version": version,
            "build": "h0_0",
            "build_number": 0,
            "depends": [],
            "subdir": "linux-64",
            "sha256": "0" * 64,
        }
        for version in versions
    }
    for subdir, content in (("linux-64", packages), ("noarch", {})):
        (folder / subdir).mkdir(parents=True)
        document = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": content}
        (folder / subdir / "repodata.json").write_text(json.dumps(document))
    return folder.as_uri()


@pytest.fixture
def choose(tmp_path: Path) -> Choose:
    """Return a function that chooses, and remembers the answers of channels in one folder."""

    def run(channel: str, *, platform: str = "linux/amd64", may_ask: bool = True) -> ChosenPython:
        settings = Settings(
            profile="none", channels=(channel,), platforms=(platform,), cache_dir=tmp_path / "cache"
        )
        context = Context(settings)

        def open_(urls: tuple[str, ...]) -> Channels:
            assert may_ask, "the answer is remembered"
            return open_channels(urls, PYTHON, context)

        return choose_python(
            ENVIRONMENT, settings=settings, environ={}, open_channels=open_, cache=tmp_path / "pythons"
        )

    return run


def make_older(folder: Path, seconds: float) -> None:
    """Make the remembered answers in *folder* older."""
    for path in folder.glob("*.json"):
        entry = json.loads(path.read_text())
        path.write_text(json.dumps({**entry, "time": time.time() - seconds}))
        os.utime(path)


def test_channel_with_the_local_version_gives_the_python_and_is_asked_once_a_week(
    choose: Choose, tmp_path: Path
) -> None:
    channel = make_channel(tmp_path / "channel", "3.11.7", "3.11.8")
    assert choose(channel) == ("conda", "")
    assert choose(channel, may_ask=False) == ("conda", "")
    make_older(tmp_path / "pythons", REMEMBERED - 60)
    assert choose(channel, may_ask=False) == ("conda", "")
    make_older(tmp_path / "pythons", REMEMBERED + 60)
    with pytest.raises(AssertionError, match="remembered"):
        choose(channel, may_ask=False)


def test_channel_without_the_local_version_leaves_the_base_python_without_a_deviation(
    choose: Choose, tmp_path: Path
) -> None:
    channel = make_channel(tmp_path / "channel", "3.11.8")
    assert choose(channel) == ("base", "")
    assert choose(channel, may_ask=False) == ("base", "")


def test_silent_channel_leaves_the_base_python_with_the_reason(choose: Choose, tmp_path: Path) -> None:
    expected = ("base", f"{SILENT} didn't answer when asked for Python 3.11.7")
    assert choose(SILENT) == expected
    # It isn't asked again at once, and what it would have said isn't known.
    assert choose(SILENT, may_ask=False) == expected
    make_older(tmp_path / "pythons", SILENCE_REMEMBERED + 60)
    with pytest.raises(AssertionError, match="remembered"):
        choose(SILENT, may_ask=False)


def test_answer_holds_for_its_channel_alone(choose: Choose, tmp_path: Path) -> None:
    choose(make_channel(tmp_path / "channel", "3.11.7"))
    assert choose(make_channel(tmp_path / "other", "3.11.8")) == ("base", "")


def test_answer_holds_for_its_platform_alone(choose: Choose, tmp_path: Path) -> None:
    channel = make_channel(tmp_path / "channel", "3.11.7")  # of linux-64
    assert choose(channel) == ("conda", "")
    assert choose(channel, platform="linux/arm64") == ("base", "")


def test_base_python_for_want_of_an_answer_is_a_deviation_of_the_same_version_too() -> None:
    plan = make_plan(ENVIRONMENT, settings=Settings(profile="none"))
    assert python_deviation(plan, "3.11.7") is None
    deviation = python_deviation(replace(plan, interpreter_reason="nobody answers"), "3.11.7")
    assert deviation is not None
    assert deviation.message == (
        "differs: python 3.11.7 (same version): it is the base image's build and not a channel's, because"
        ' nobody answers; `python = "base"` asks none'
    )
    assert deviation.outcome == "the same version"
    other = python_deviation(replace(plan, interpreter_reason="nobody answers"), "3.11.2")
    assert other is not None
    assert other.reason == "the base image has Python 3.11.2, and nobody answers"
