"""The base image: made once, from roots of all kinds, with a clear word where it can't be."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

import docker
import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest, ContextFile, stream_files
from imagesync.engine.engine import Engine
from imagesync.engine.run_container import RunRequest
from imagesync.errors import BaseImageError
from imagesync.image.base import ensure_base, ensure_stage
from imagesync.image.templates import dockerfile_base
from imagesync.image_layout import BaseImage
from imagesync.settings.model import Settings
from tests.progress import RecordedLines

pytestmark = pytest.mark.engine
MakeRoot = Callable[..., str]


@pytest.fixture
def base(ours: Engine, root_image: str) -> BaseImage:
    """Return the session's base image; whatever runs first makes it."""
    return ensure_base(ours, settings=Settings(base=root_image), progress=SilentProgress())


def dockerfile(text: str) -> Iterator[bytes]:
    return stream_files([ContextFile("Dockerfile", text.encode(), len(text.encode()))])


@pytest.fixture
def make_root(
    ours: Engine, engine: docker.DockerClient, base: BaseImage, own_bases: None
) -> Iterator[MakeRoot]:
    """Return a factory of root images: a Dockerfile after its FROM, on the base image or another one."""
    made = []

    def make(text: str, *, root: str = base.reference) -> str:
        name = f"imagesync-test-{secrets.token_hex(4)}:root"
        request = BuildRequest("none", "linux/amd64")
        ours.tag(ours.build(dockerfile(f"FROM {root}\n{text}\n"), request, progress=SilentProgress()), name)
        made.append(name)
        return name

    yield make
    for name in made:
        engine.images.remove(name, force=True)


def test_base_has_what_an_environment_needs(ours: Engine, base: BaseImage) -> None:
    script = (
        'set -eu; id -u; umask; "$0" --version; "$0" -m venv --without-pip /tmp/env;'
        " test -s /etc/ssl/certs/ca-certificates.crt; touch ~/mine; ! command -v cc; ! command -v make"
    )
    result = ours.run(RunRequest(base.reference, ("sh", "-c", script, base.python_executable)))
    assert (result.exit_code, result.stderr) == (0, b"")
    assert result.stdout.decode().split() == ["1000", "0022", "Python", base.python_version]
    assert base.glibc >= (2, 31)
    assert base.reference == f"imagesync-base:{base.base_hash.removeprefix('sha256:')[:16]}"


def test_base_for_wheels_has_a_compiler_and_the_minimal_one_no_python(
    ours: Engine, root_image: str, base: BaseImage
) -> None:
    settings, progress = Settings(base=root_image), SilentProgress()
    compiler = ensure_stage(ours, base, "build", settings=settings, progress=progress)
    script = (
        'set -eu; id -u; cc --version >/dev/null; make --version >/dev/null; "$0" -m venv /tmp/env;'
        " \"$0\" -c \"import os, sysconfig; os.stat(sysconfig.get_path('include') + '/Python.h')\""
    )
    result = ours.run(RunRequest(compiler.reference, ("sh", "-c", script, base.python_executable)))
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"1000\n", b"")
    minimal = ensure_stage(ours, base, "minimal", settings=settings, progress=progress)
    script = "set -eu; id -u; test -s /etc/ssl/certs/ca-certificates.crt; touch ~/mine; ! command -v python3"
    result = ours.run(RunRequest(minimal.reference, ("sh", "-c", script)))
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"1000\n", b"")
    again = RecordedLines()
    assert ensure_stage(ours, base, "minimal", settings=settings, progress=again) == minimal
    assert again.lines == []


def test_base_is_found_the_second_time(ours: Engine, root_image: str, base: BaseImage) -> None:
    progress = RecordedLines()
    assert ensure_base(ours, settings=Settings(base=root_image), progress=progress) == base
    assert progress.lines == []


def test_nameless_images_are_not_left_behind(
    ours: Engine, engine: docker.DockerClient, make_root: MakeRoot
) -> None:
    purpose = secrets.token_hex(4)
    root = make_root(f"LABEL purpose={purpose}")
    made = ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
    left = engine.api.images(filters={"dangling": True, "label": f"purpose={purpose}"})
    assert left == []
    assert engine.images.get(made.reference).labels["purpose"] == purpose


def test_complete_root_needs_no_network(ours: Engine, engine: docker.DockerClient, base: BaseImage) -> None:
    request = BuildRequest("none", "linux/amd64", build_args={"BASE": base.reference}, no_cache=True)
    request = replace(request, target="runtime")
    image = ours.build(dockerfile(dockerfile_base()), request, progress=SilentProgress())
    try:
        sizes = [layer["Size"] for layer in engine.api.history(image)]
        assert sum(sizes) < sum(layer["Size"] for layer in engine.api.history(base.reference)) + 10_000
    finally:
        engine.images.remove(image, force=True)


def test_roots_entry_point_and_user_are_put_aside(
    ours: Engine, engine: docker.DockerClient, make_root: MakeRoot
) -> None:
    root = make_root('ENTRYPOINT ["echo", "banner"]\nUSER 33\nSHELL ["/bin/false"]')
    made = ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
    config = engine.images.get(made.reference).attrs["Config"]
    assert not config["Entrypoint"]
    assert config["User"] == "1000:1000"


def test_user_1000_of_the_root_is_kept(ours: Engine, make_root: MakeRoot) -> None:
    root = make_root("USER 0:0\nRUN userdel imagesync && useradd --uid 1000 --create-home ubuntu")
    made = ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
    result = ours.run(RunRequest(made.reference, ("sh", "-c", "id -un; touch ~/mine && echo $HOME")))
    assert result.stdout.decode().split() == ["ubuntu", "/home/imagesync"]


def test_interpreter_in_usr_local_is_taken(ours: Engine, make_root: MakeRoot) -> None:
    # As in the official python images: not the distribution's, and first on PATH.
    root = make_root(
        "USER 0:0\nRUN python3 -m venv --without-pip /opt/py && ln -s /usr/bin/python3 /usr/local/bin/python3"
    )
    made = ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
    assert made.python_executable == "/usr/local/bin/python3"


def test_system_packages_come_in_above_the_rest(
    ours: Engine, engine: docker.DockerClient, make_root: MakeRoot
) -> None:
    # A root of its own: of one that was made long ago the builder may have forgotten the steps.
    root = make_root("ENV TREE=1")
    base = ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
    made = ensure_base(ours, settings=Settings(base=root, apt=("tree",)), progress=SilentProgress())
    assert ours.run(RunRequest(made.reference, ("tree", "--version"))).exit_code == 0
    assert made.apt == ("tree",)
    layers = engine.images.get(made.reference).attrs["RootFS"]["Layers"]
    shared = engine.images.get(base.reference).attrs["RootFS"]["Layers"]
    # Root, distribution's packages and user are shared; only the layer of `apt` is another one.
    differing = [number for number, pair in enumerate(zip(layers, shared, strict=True)) if pair[0] != pair[1]]
    assert len(differing) == 1
    assert differing[0] >= 3


def test_unknown_system_package_is_told(ours: Engine, root_image: str, make_root: MakeRoot) -> None:
    settings = Settings(base=root_image, apt=("there-is-no-such-package",))
    with pytest.raises(BaseImageError, match="there-is-no-such-package") as caught:
        ensure_base(ours, settings=settings, progress=SilentProgress())
    assert "Correct the package's name" in str(caught.value.hint)


def test_root_that_lacks_something_without_a_network_says_what_to_do(
    ours: Engine, root_image: str, make_root: MakeRoot
) -> None:
    nowhere = "deb [trusted=yes] http://127.0.0.1:9/debian stable main"
    root = make_root(
        f'RUN rm -rf /etc/apt/sources.list* && echo "{nowhere}" >/etc/apt/sources.list', root=root_image
    )
    with pytest.raises(BaseImageError, match=r"127\.0\.0\.1") as caught:
        ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
    assert "name an image with --base that has python3" in str(caught.value.hint)


def test_root_without_python_and_apt_is_refused(ours: Engine, root_image: str, make_root: MakeRoot) -> None:
    root = make_root("RUN rm /usr/bin/apt-get", root=root_image)
    with pytest.raises(BaseImageError, match="no python3, and no apt-get"):
        ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())


def test_root_without_apt_but_with_python_is_taken(ours: Engine, make_root: MakeRoot) -> None:
    root = make_root("USER 0:0\nRUN rm /usr/bin/apt-get")
    made = ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
    assert made.python_executable == "/usr/bin/python3"


def test_root_without_a_shell_is_refused(
    ours: Engine, engine: docker.DockerClient, make_root: MakeRoot
) -> None:
    root = make_root("LABEL empty=yes", root="scratch")
    with pytest.raises(BaseImageError, match="can't be made from"):
        ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())


def test_root_that_cannot_be_pulled_is_told(ours: Engine) -> None:
    settings = Settings(base="127.0.0.1:9/nobody/nothing:1")
    with pytest.raises(BaseImageError, match=r"127\.0\.0\.1:9/nobody/nothing:1 isn't here"):
        ensure_base(ours, settings=settings, progress=SilentProgress())


def test_base_whose_making_was_interrupted_is_completed(
    ours: Engine, engine: docker.DockerClient, make_root: MakeRoot
) -> None:
    root = make_root("LABEL purpose=interrupted")
    made = ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
    # As after the build and before the interpreter was asked; the label of the base below is inherited.
    ours.tag(root, made.reference)
    again = ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
    assert made.base_hash in engine.images.get(again.reference).labels["dev.imagesync.base"]
