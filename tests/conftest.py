"""What all tests share: the real command line, real environments, and a policy for skips."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from imagesync.store.store import Store
from tests.channels.channel import ensure_channel
from tests.channels.environments import CondaEnvironment, make_conda_environment
from tests.commands import CommandLine, clean_environ
from tests.environments import LocalEnvironment, feature_version, make_environment

# Environments to make and scripts to run in images, not tests.
collect_ignore = ["cases"]

# Machines that are busy with images are slow at times. The rest is as in its default profile, or that of CI.
hypothesis.settings.register_profile(
    "any speed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any speed")

# A skip stands for something that this machine can't have. Any other reason fails the test.
ALLOWED_SKIPS = (
    r"no (second )?CPython \d\.\d+ on this machine",
    r"no cargo on this machine",
    r"no conda, mamba or micromamba on this machine",
    r"the system's Python has no packages on this machine",
    r"needs root",
    r"no programs of linux/arm64 run on this machine",
    r"only on (Windows|macOS|Linux)",
    r"not on (Windows|macOS)",
)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(re.search(allowed, reason) for allowed in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"{reason}\nis not among the reasons for a skip that tests/conftest.py allows"


def pytest_configure() -> None:
    """Let signals reach what tests start: background jobs ignore interrupts, nohup ignores hangups."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # A handler isn't inherited by programs that are started; this process goes on without a terminal.
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the tests, of which nothing is garbage, without looking for garbage, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that use the container engine, and which of them `make test` runs beside the others."""
    if _uses_engine(item):
        item.add_marker(pytest.mark.engine)
        if _is_independent(item):
            item.add_marker(pytest.mark.beside)


def _uses_engine(item: pytest.Item) -> bool:
    fixtures = {"engine", "endpoint"} & set(getattr(item, "fixturenames", ()))
    in_integration = "integration" in Path(item.path).parts
    return in_integration and bool(fixtures or item.get_closest_marker("engine"))


def _is_independent(item: pytest.Item) -> bool:
    """Return True for tests of the one image with Dask, and of Podman, which has a storage of its own."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    fixtures = {"dask_project", "podman"} & set(getattr(item, "fixturenames", ()))
    return bool(fixtures) or parameters.get("endpoint") == "podman"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count what didn't run, by reason, where nobody overlooks it."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        terminalreporter.section(f"{sum(reasons.values())} TESTS DID NOT RUN", yellow=True)
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count:4} x {reason}")


@pytest.fixture(scope="session", autouse=True)
def _spread_over_the_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let ext4 put each test's files into another part of the disk.

    Without a journal it looks through all inodes freed nearby in the last minutes for each new file: 20 times
    slower where a test before has removed thousands of files.
    """
    if chattr := shutil.which("chattr"):
        command = [chattr, "+T", str(tmp_path_factory.getbasetemp())]
        subprocess.run(command, check=False, capture_output=True)  # other file systems have no such flag


@pytest.fixture(scope="session")
def shared_cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store that the whole session fills, so that a wheel is fetched and compiled once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """Return a store of this test's own, empty."""
    return tmp_path / "store"


@pytest.fixture
def store(cache_dir: Path) -> Store:
    """Return the store in this test's own cache folder."""
    return Store(cache_dir)


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """Return an empty folder to run commands in, with no settings above it."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def cli(work_dir: Path, cache_dir: Path) -> CommandLine:
    """Return the console script, with a store of this test's own."""
    # Most tests are about pip environments, and no conda channel is meant to be asked for a Python.
    settings = {"IMAGESYNC_CACHE_DIR": str(cache_dir), "IMAGESYNC_PYTHON": "base"}
    return CommandLine(environ={**clean_environ(), **settings}, cwd=work_dir)


MakeEnvironment = Callable[..., LocalEnvironment]


@pytest.fixture
def environment(tmp_path: Path) -> MakeEnvironment:
    """Return a factory of virtual environments: ``environment("toolz==1.0.0", editable=[folder])``."""
    made = 0

    def make(
        *packages: str,
        name: str = "",
        python: str | Path = sys.executable,
        editable: Sequence[Path] = (),
        installer: str = "uv",
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> LocalEnvironment:
        nonlocal made
        made += 1
        return make_environment(
            tmp_path / (name or f"env{made}"),
            packages=packages,
            python=python,
            editable=editable,
            installer=installer,
            arguments=arguments,
            environ=environ,
        )

    return make


@pytest.fixture(scope="session")
def channel() -> Path:
    """Return the folder of the conda channel that tests install from (tests/channels); nobody changes it."""
    return ensure_channel()


MakeCondaEnvironment = Callable[..., CondaEnvironment]


@pytest.fixture
def conda_environment(tmp_path: Path, channel: Path) -> MakeCondaEnvironment:
    """Return a factory: ``conda_environment("python", "dask", platform="osx-arm64", pip=["toolz==0.12.0"])``.

    Its further arguments are those of ``tests.channels.environments.make_conda_environment``, and *channel*.
    """
    made = 0

    def make(*specs: str, name: str = "", channel: Path | str = channel, **options: Any) -> CondaEnvironment:
        nonlocal made
        made += 1
        return make_conda_environment(channel, specs, tmp_path / (name or f"conda{made}"), **options)

    return make


@pytest.fixture(scope="session")
def find_python() -> Callable[[str], Path]:
    """Return a function that finds an installed CPython by feature version, or skips the test."""

    def find(version: str) -> Path:
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        candidates = [
            Path(f"/usr/bin/python{version}"),
            *sorted(pyenv.glob(f"versions/{version}.*/bin/python")),
            Path(shutil.which(f"python{version}") or sys.executable),
        ]
        for candidate in candidates:
            if candidate.exists() and feature_version(candidate) == version:
                return candidate
        pytest.skip(f"no CPython {version} on this machine")

    return find
