"""``python -m benchmarks.pushes``: images in a registry, beside ``docker build`` with uv and ``docker push``.

The registry is Debian's ``docker-registry`` on this machine, and has the base image in each repository
already. Figures:

``new``
    Nothing of the environment is in the registry, and artifacts are in the store: with no part known, and
    with all parts known.
``edit``
    A changed line of an editable project, in an environment that was pushed. Beside it the build of its
    wheel alone.
``light``
    Another version of one light package, in an environment that was pushed.
``same``
    An unchanged environment that was pushed. Beside it the scan.
``ci``
    A changed line of an editable project, with an empty store and ``cache-from``.

All but ``new`` are pushed through a proxy that counts requests and bytes. Needs a container engine, PyPI,
``docker-registry`` and ``skopeo``.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from uv import find_uv_bin

from benchmarks.builders import (
    COPY,
    INSTALL_PROJECT,
    UNCACHED_UV,
    UV,
    Subjects,
    WithoutEngine,
    open_subjects,
    print_runs,
    read_arguments,
)
from benchmarks.environments import clean_environ
from benchmarks.measure import Contender, Run, in_turns
from benchmarks.scripts import run_script
from benchmarks.subjects import CopyAndInstall, Project
from tests.integration.local_registry import LocalRegistry
from tests.integration.registry_proxy import RegistryProxy

PUSHED_UV, PUSHED_COPY = f"{UV}, docker push", f"{COPY}, docker push"
# One light package, and versions of it that dask and distributed can use.
LIGHT = ("click", ("8.2.1", "8.2.2", "8.3.0", "8.3.1", "8.3.2", "8.3.3", "8.4.1"))


@dataclass(frozen=True)
class Registry:
    """A registry with the base image, and the builds that are pushed to it.

    Parameters
    ----------
    subjects
        The environment and its builders.
    host
        Of the registry itself.
    proxy
        Counts, in front of the registry.
    """

    subjects: Subjects
    host: str
    proxy: RegistryProxy
    _numbers: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    def repository(self, host: str) -> str:
        """Return a new repository on *host*, which has the base image."""
        name = f"{host}/bench/env{next(self._numbers)}"
        _run(
            "skopeo",
            "copy",
            "--quiet",
            *_PLAIN,
            f"docker://{self.host}/bench/base:1",
            f"docker://{name}:base",
        )
        return name

    def oci(self, repository: str) -> WithoutEngine:
        """Return the builder without an engine, on the base image in *repository*."""
        return WithoutEngine(replace(self.subjects.oci.ours, base=f"{repository}:base"))

    def push(self, image: str, repository: str) -> Mapping[str, float]:
        """Push an image of the engine, and note it for its removal."""
        self.subjects.made.append(image)
        _run("docker", "tag", image, f"{repository}:pushed")
        _run("docker", "push", "--quiet", f"{repository}:pushed")
        _run("docker", "rmi", f"{repository}:pushed")
        return {}

    def counted(self, push: Callable[[], object]) -> Mapping[str, float]:
        """Return the requests and bytes that *push* sends."""
        self.proxy.forget()
        push()
        return {"requests": len(self.proxy.requests), "bytes sent": self.proxy.uploaded}


_PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


@contextmanager
def open_registry(subjects: Subjects) -> Iterator[Registry]:
    """Give a registry that has the base image, which is the engine's."""
    with (
        tempfile.TemporaryDirectory(dir=subjects.work) as folder,
        LocalRegistry(Path(folder), auth={}) as registry,
        RegistryProxy(registry.host) as proxy,
    ):
        name = f"{registry.host}/bench/base:1"
        _run("docker", "tag", subjects.uv.base, name)
        try:
            _run("docker", "push", "--quiet", name)
        finally:
            _run("docker", "rmi", name)
        yield Registry(subjects, registry.host, proxy)


def measure_new(registry: Registry, *, turns: int) -> dict[str, list[Run]]:
    """Measure pushes of an environment of which the registry has nothing."""
    subjects, rival = registry.subjects, registry.repository(registry.host)
    gone = {"oci, no part known": ("part", "layer"), "oci, parts known": ("layer",)}
    target: list[str] = []

    def prepare(name: str) -> None:
        # What was pushed has the same layers, so that each run has a repository of its own.
        if name in gone:
            target[:] = [registry.repository(registry.host)]
            registry.oci(target[0]).forget(*gone[name])

    def build() -> Mapping[str, float]:
        registry.oci(target[0]).build("--push", "--repository", target[0])
        return {}

    contenders: dict[str, Contender] = {
        **dict.fromkeys(gone, build),
        PUSHED_UV: lambda: registry.push(subjects.uv.build(), rival),
    }
    return in_turns(contenders, runs=turns, warm_up=True, prepare=prepare)


def measure_edit(registry: Registry, *, turns: int) -> dict[str, list[Run]]:
    """Measure an edit of a line, to a pushed image."""
    subjects, ours = registry.subjects, registry.repository(registry.proxy.host)
    theirs = registry.repository(registry.proxy.host)
    project = Project(subjects.work / "project")
    rival = CopyAndInstall(replace(subjects.uv, installer=UNCACHED_UV), project, INSTALL_PROJECT)

    def wheel() -> Mapping[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            command = [find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", folder, str(project.folder)]
            subprocess.run(
                [*command, "--python", subjects.environment.python], check=True, env=clean_environ()
            )
            return {"bytes": sum(path.stat().st_size for path in Path(folder).glob("*.whl"))}

    contenders: dict[str, Contender] = {
        "oci": lambda: registry.counted(lambda: registry.oci(ours).build("--push", "--repository", ours)),
        PUSHED_COPY: lambda: registry.counted(lambda: registry.push(rival.build(), theirs)),
        "wheel alone": wheel,
    }
    project.install(subjects.environment)
    try:
        return in_turns(contenders, runs=turns, warm_up=True, prepare=lambda _: project.edit())
    finally:
        project.remove(subjects.environment)


def measure_light(registry: Registry, *, turns: int) -> dict[str, list[Run]]:
    """Measure another version of a light package, to a pushed image."""
    subjects, ours = registry.subjects, registry.repository(registry.proxy.host)
    theirs = registry.repository(registry.proxy.host)
    name, versions = LIGHT
    # Each run needs a version that wasn't pushed before.
    numbers = {contender: iter(versions[: turns + 1]) for contender in ("oci", PUSHED_UV)}
    requirements: list[str] = []

    def prepare(contender: str) -> None:
        if contender in numbers:
            _install(subjects, f"{name}=={next(numbers[contender])}")
            # The rival has them in a file.
            requirements[:] = subjects.environment.installed()

    def build_rival() -> str:
        return replace(subjects.uv, requirements=tuple(requirements)).build()

    contenders: dict[str, Contender] = {
        "oci": lambda: registry.counted(lambda: registry.oci(ours).build("--push", "--repository", ours)),
        PUSHED_UV: lambda: registry.counted(lambda: registry.push(build_rival(), theirs)),
        "scan": subjects.docker.scan,
    }
    try:
        return in_turns(contenders, runs=min(turns, len(versions) - 1), warm_up=True, prepare=prepare)
    finally:
        _install(subjects, f"{name}=={versions[-1]}")


def measure_same(registry: Registry, *, turns: int) -> dict[str, list[Run]]:
    """Measure a push of what was pushed."""
    repository = registry.repository(registry.proxy.host)
    ours = registry.oci(repository).ours

    def build() -> None:
        ours.make("--builder", "oci", "--push", "--repository", repository)

    contenders: dict[str, Contender] = {
        "oci, again": lambda: registry.counted(build),
        "scan": ours.scan,
    }
    return in_turns(contenders, runs=turns, warm_up=True)


def measure_ci(registry: Registry, *, turns: int) -> dict[str, list[Run]]:
    """Measure an edit of a line with an empty store, whose layers ``cache-from`` has."""
    subjects, repository = registry.subjects, registry.repository(registry.proxy.host)
    project = Project(subjects.work / "project")
    ours = replace(registry.oci(repository).ours, store=subjects.work / "ci-store")
    arguments = ("--push", "--repository", repository, "--cache-from", repository)

    def prepare(_: str) -> None:
        shutil.rmtree(ours.store, ignore_errors=True)
        project.edit()

    contenders: dict[str, Contender] = {
        "oci, cache-from": lambda: registry.counted(lambda: WithoutEngine(ours).build(*arguments)),
        "oci, empty store": lambda: registry.counted(lambda: WithoutEngine(ours).build(*arguments[:3])),
    }
    project.install(subjects.environment)
    try:
        return in_turns(contenders, runs=turns, warm_up=True, prepare=prepare)
    finally:
        project.remove(subjects.environment)
        shutil.rmtree(ours.store, ignore_errors=True)


def _install(subjects: Subjects, requirement: str) -> None:
    command = [find_uv_bin(), "pip", "install", "--quiet", "--python", str(subjects.environment.python)]
    subprocess.run([*command, "--no-deps", requirement], check=True, env=clean_environ())


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Measure, and print seconds, ratios, requests and bytes on stdout."""
    measures = {
        "new": measure_new,
        "edit": measure_edit,
        "light": measure_light,
        "same": measure_same,
        "ci": measure_ci,
    }
    arguments = read_arguments(__doc__, measures)
    work = Path(".work/bench/pushes").absolute()
    with (
        open_subjects(
            work, base=arguments.base, python=arguments.python, packages=arguments.packages
        ) as subjects,
        open_registry(subjects) as registry,
    ):
        for name in arguments.figures:
            measured = measures[name](registry, turns=arguments.turns)
            others = [each for each in (PUSHED_UV, PUSHED_COPY, "wheel alone", "scan") if each in measured]
            print_runs(f"{name}, {arguments.packages}", measured, others)
            subjects.remove_made()
    return 0


if __name__ == "__main__":
    run_script(main)
