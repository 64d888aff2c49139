"""An environment of somebody else's, where everything that can be run leaves a file behind."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from imagesync.core.progress import Progress, SilentProgress
from imagesync.errors import DeviationError, LockError, UnsolvableError, WheelError
from imagesync.image_layout import BaseImage
from imagesync.lock.lockfile.write import Bundle
from imagesync.pipeline.artifacts import Artifacts, fetch_artifacts
from imagesync.pipeline.context import Context
from imagesync.pipeline.freeze import freeze
from imagesync.session import Session
from imagesync.settings.model import Settings
from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.progress import RecordedLines
from tests.unit.scan.test_direct_url import hostile_repository


class Foreign:
    """The environment, and the folder where whatever runs leaves a file of its name."""

    def __init__(self, environment: LocalEnvironment, folder: Path) -> None:
        self.environment = environment
        self.folder = folder
        self.traces = folder / "traces"
        self.links = folder / "links"
        self.traces.mkdir()
        self.links.mkdir()

    @property
    def ran(self) -> set[str]:
        """Return what has run."""
        return {path.name for path in self.traces.iterdir()}

    def python(self, name: str) -> str:
        """Return a line of Python that leaves a file behind."""
        return f"import pathlib; pathlib.Path({str(self.traces / name)!r}).touch()\n"

    def install(
        self, name: str, *, direct_url: object = None, requires: str = "", record: bool = True
    ) -> None:
        info = self.environment.site_packages / f"{name}-1.0.dist-info"
        info.mkdir()
        required = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{required}")
        (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        (info / "INSTALLER").write_text("pip\n")
        (self.environment.site_packages / f"{name}.py").write_text("value = 1\n")
        if direct_url is not None:
            (info / "direct_url.json").write_text(json.dumps(direct_url))
        if record:
            listed = [f"{name}.py", *(f"{info.name}/{path.name}" for path in info.iterdir())]
            (info / "RECORD").write_text("".join(f"{path},,\n" for path in [*listed, f"{info.name}/RECORD"]))

    def make_project(self, folder: Path, name: str) -> None:
        """Write a project whose build back-end, its own, leaves a file behind and fails."""
        folder.mkdir(exist_ok=True)
        (folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        (folder / "backend.py").write_text(self.python(f"back-end of {name}"))
        (folder / f"{name}.py").write_text("value = 1\n")

    def make_sdist(self, name: str) -> Path:
        """Put an sdist into the folder of the only index."""
        source = self.folder / f"{name}-1.0"
        self.make_project(source, name)
        (source / "PKG-INFO").write_text(f"Metadata-Version: 1.0\nName: {name}\nVersion: 1.0\n")
        path = self.links / f"{name}-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(source, arcname=source.name)
        return path


@pytest.fixture
def foreign(base_python: Path, tmp_path: Path) -> Foreign:
    foreign = Foreign(make_environment(tmp_path / "env", python=base_python), tmp_path)
    site = foreign.environment.site_packages
    (site / "evil.pth").write_text(foreign.python("pth"))
    (site / "sitecustomize.py").write_text(foreign.python("sitecustomize"))
    upload_pack = foreign.traces / "upload-pack"
    commit = {"vcs": "git", "commit_id": "a" * 40}
    foreign.install(
        "optioned",
        direct_url={"url": f"--upload-pack=touch {upload_pack};", "vcs_info": commit},
        record=False,
    )
    foreign.install("sdisted")
    foreign.make_sdist("sdisted")
    dependency = foreign.make_sdist("dependency").rename(tmp_path / "dependency-1.0.tar.gz")
    project = hostile_repository(tmp_path / "project", foreign.traces / "git")
    foreign.make_project(project, "mine")
    foreign.install(
        "mine",
        direct_url={"url": project.as_uri(), "dir_info": {"editable": True}},
        requires=f"dependency @ {dependency.as_uri()}",
    )
    for trace in foreign.traces.iterdir():
        trace.unlink()
    return foreign


@pytest.fixture
def cli_here(cli: CommandLine, foreign: Foreign, tmp_path: Path) -> CommandLine:
    return cli.with_environ(
        IMAGESYNC_PROFILE="none",
        IMAGESYNC_CACHE_DIR=tmp_path / "cache",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=foreign.links,
        UV_CACHE_DIR=tmp_path / "uv",
        IMAGESYNC_ALLOW_INCONSISTENT="1",
    )


class Way:
    """The way from the environment to the files of its image, but for the engine."""

    def __init__(self, foreign: Foreign, cli: CommandLine, *, by: str, **settings: object) -> None:
        python = foreign.environment.python if by == "python" else None
        prefix = foreign.environment.prefix if by == "prefix" else None
        chosen = Settings(
            profile="none",
            allow_inconsistent=True,
            cache_dir=foreign.folder / "cache",
            **settings,  # type: ignore[arg-type]
        )
        session = Session(Context(chosen, environ=cli.environ), python=python, prefix=prefix)
        inputs = session.inputs().checked()
        self.plan = inputs.plan
        self.sources = inputs.artifact_sources()
        minor = foreign.environment.site_packages.parent.name.removeprefix("python")
        self.lock = inputs.lock(base_image(f"{minor}.0"), self.sources)

    def freeze(self) -> Bundle:
        """Return what ``lock -o`` writes."""
        return freeze(self.plan, self.lock, self.sources)

    def fetch(self) -> Artifacts:
        """Return what ``render`` and ``build`` put into the image."""
        return fetch_artifacts(self.lock, self.sources)


def base_image(python_version: str) -> BaseImage:
    digest = f"sha256:{'0' * 64}"
    return BaseImage("base:1", "root:1", digest, digest, python_version, "/usr/bin/python3", (2, 36), digest)


def hide_interpreter(foreign: Foreign) -> None:
    """Make the interpreter one that leaves a file behind, and its version the name of a program."""
    prefix = foreign.environment.prefix
    program = prefix / "python3.1"
    real = foreign.environment.python.resolve().read_bytes()
    for path in (foreign.environment.python, program):
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\ntouch '{foreign.traces / 'interpreter'}'\nexit 1\n")
        path.chmod(0o755)
    other = prefix / "bin/python3"
    other.unlink(missing_ok=True)
    other.write_bytes(real)  # it tells which platform this is, and isn't executable
    configuration = prefix / "pyvenv.cfg"
    kept = [line for line in configuration.read_text().splitlines() if not line.startswith("version")]
    configuration.write_text("\n".join([*kept, f"version = {program}"]) + "\n")


def test_of_a_prefix_nothing_runs(foreign: Foreign, cli_here: CommandLine) -> None:
    hide_interpreter(foreign)
    prefix = foreign.environment.prefix
    scanned = cli_here("scan", "--prefix", prefix, "--format", "json").json()
    assert {package["name"] for package in scanned["packages"]} >= {"optioned", "sdisted", "mine"}
    assert [f["package"] for f in scanned["findings"] if f["code"] == "source-refused"] == ["optioned"]
    planned = cli_here("plan", "--prefix", prefix, "--format", "json").json()
    assert "optioned" in {package["name"] for package in planned["left_out"]}
    locked = Way(foreign, cli_here, by="prefix")
    assert {package.name for package in locked.lock.packages} == {"sdisted"}
    assert {package.name for package in locked.lock.vendored} == {"mine"}
    assert foreign.ran == set()


def test_without_builds_nothing_runs_and_what_needs_one_is_named(
    foreign: Foreign, cli_here: CommandLine
) -> None:
    hide_interpreter(foreign)
    way = Way(foreign, cli_here, by="prefix", no_build=True)
    for step in (way.freeze, way.fetch):
        with pytest.raises(WheelError, match=r"mine 1\.0: there is no wheel, and with --no-build") as error:
            step()
        assert "--ignore mine" in (error.value.hint or "")
    rest = Way(foreign, cli_here, by="prefix", no_build=True, ignore=("mine",))
    assert rest.freeze().wheels["sdisted"].filename == "sdisted-1.0-py3-none-any.whl"
    assert [wheel.filename for wheel in rest.fetch().vendored.wheels] == ["sdisted-1.0-py3-none-any.whl"]
    assert foreign.ran == set()


@pytest.mark.parametrize("no_build", [False, True])
def test_where_versions_are_resolved_nothing_is_built_that_metadata_names_by_url(
    foreign: Foreign, cli_here: CommandLine, no_build: bool
) -> None:
    hide_interpreter(foreign)
    (foreign.environment.prefix / "bin/python3").unlink()  # of an unknown platform, so everything is resolved
    with pytest.raises(LockError):
        Way(foreign, cli_here, by="prefix", no_build=no_build)
    # What an index has is asked what it requires, as pip does.
    assert foreign.ran <= (set() if no_build else {"back-end of sdisted"})


def test_an_interpreter_runs_what_it_always_runs_at_its_start(
    foreign: Foreign, cli_here: CommandLine
) -> None:
    way = Way(foreign, cli_here, by="python", no_build=True, ignore=("mine",))
    way.freeze()
    way.fetch()
    assert foreign.ran <= {"pth", "sitecustomize"}
    assert "pth" in foreign.ran


def test_a_build_runs_build_back_ends_and_nothing_else(foreign: Foreign, cli_here: CommandLine) -> None:
    with pytest.raises(WheelError, match=r"mine 1\.0: no wheel can be built"):
        Way(foreign, cli_here, by="prefix").fetch()
    assert foreign.ran - {"pth", "sitecustomize"} == {"back-end of mine", "back-end of sdisted"}


def test_commands_refuse_what_only_a_build_would_make(
    foreign: Foreign, cli_here: CommandLine, root_image: str
) -> None:
    cli = cli_here.with_environ(IMAGESYNC_BASE=root_image)
    for command in (("lock", "-o", "conda-lock.yml"), ("render", "-o", "context"), ("build",)):
        refused = cli.run(*command, "--python", foreign.environment.python, "--no-build")
        assert refused.returncode == 1
        assert "mine 1.0: there is no wheel, and with --no-build no build back-end is run" in refused.stderr
    assert foreign.ran <= {"pth", "sitecustomize"}


def without_engine(
    foreign: Foreign,
    cli: CommandLine,
    *,
    target_python: str,
    progress: Progress | None = None,
    **settings: object,
) -> Context:
    """Return a context where no engine answers, and the settings say what the base image has."""
    chosen = Settings(
        profile="none",
        builder="docker",
        base="base:1",
        target_python=target_python,
        target_glibc="2.36",
        allow_inconsistent=True,
        cache_dir=foreign.folder / "cache",
        **settings,  # type: ignore[arg-type]
    )
    environ = {**cli.environ, "DOCKER_HOST": f"unix://{foreign.folder}/none"}
    return Context(chosen, environ=environ, progress=progress or SilentProgress())


@pytest.mark.parametrize("resolver", ["uv", "pip-tools"])
@pytest.mark.parametrize("static", [True, False], ids=["known platform", "unknown platform"])
def test_lock_of_a_prefix_builds_nothing(
    foreign: Foreign, cli_here: CommandLine, resolver: str, static: bool
) -> None:
    hide_interpreter(foreign)
    if not static:
        (foreign.environment.prefix / "bin/python3").unlink()
    minor = foreign.environment.site_packages.parent.name.removeprefix("python")
    context = without_engine(foreign, cli_here, target_python=f"{minor}.0", resolver=resolver)
    hints: list[str] = []
    try:
        lock = Session(context, prefix=foreign.environment.prefix).lock()
        assert {package.name for package in lock.vendored} == {"mine", "sdisted"}
    except UnsolvableError as error:
        hints = (error.hint or "").splitlines()
    assert not hints or "--python PATH" in hints[-1]
    assert foreign.ran == set()


def test_lock_file_and_context_of_a_prefix_leave_out_what_needs_a_build(
    foreign: Foreign, cli_here: CommandLine
) -> None:
    hide_interpreter(foreign)
    scanned = Session(Context(Settings(), environ=cli_here.environ), prefix=foreign.environment.prefix).scan()
    progress = RecordedLines()

    def session(**settings: object) -> Session:
        context = without_engine(
            foreign,
            cli_here,
            target_python=scanned.python.version,
            progress=progress,
            python_source="base",
            **settings,
        )
        return Session(context, prefix=foreign.environment.prefix)

    lock = session().freeze().lock
    assert [package.name for package in lock.vendored] == ["sdisted"]
    assert [each.name for each in lock.deviations if each.left_out] == ["mine"]
    session().render(foreign.folder / "context")
    wheels = {path.name for path in (foreign.folder / "context" / "wheels").rglob("*.whl")}
    assert wheels == {"sdisted-1.0-py3-none-any.whl"}
    assert sum("left out: mine 1.0" in line and "--ignore mine" in line for line in progress.lines) == 2
    for step in (session(strict=True).freeze, lambda: session(strict=True).render(foreign.folder / "other")):
        with pytest.raises(DeviationError, match=r"mine 1\.0 would be left out"):
            step()
    assert foreign.ran == set()
