"""Images built from a rendered context: what they hold, what they share, and what the check of them finds."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
import uv
from packaging.utils import parse_wheel_filename

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest, stream_files
from imagesync.engine.engine import Engine
from imagesync.engine.run_container import RunRequest
from imagesync.errors import VerifyError
from imagesync.image.base import ensure_base
from imagesync.image.dockerfile import Wheels, make_context
from imagesync.image.image_context import BuildContext, write_context
from imagesync.image.verify import verify
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage, VendoredPackage
from imagesync.plan.plan import PlannedPackage
from imagesync.scan.environment import Source
from imagesync.settings.model import Settings
from imagesync.store.store import StoredFile
from tests.indexes.wheels import make_wheel

pytestmark = pytest.mark.engine
# setuptools runs code at each start of Python, msgpack and numpy have compiled modules.
PACKAGES = ("click", "msgpack", "numpy", "packaging", "setuptools", "toolz")
AWKWARD = 'it\'s "quoted" \\ $HOME ${PATH} #x\u00e9 ' + "long " * 20_000
MakeImage = Callable[..., str]


@pytest.fixture(scope="module")
def base(ours: Engine, root_image: str) -> BaseImage:
    return ensure_base(ours, settings=Settings(base=root_image), progress=SilentProgress())


def stored(path: Path) -> StoredFile:
    content = path.read_bytes()
    return StoredFile(path.name, path, "sha256:" + hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture(scope="module")
def wheels(base: BaseImage, tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredFile, ...]:
    """Return real wheels from PyPI, for the base's interpreter."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
    target = ["--python-version", base.minor, "--platform", "manylinux_2_28_x86_64"]
    platform = [*target, "--platform", "manylinux2014_x86_64", "--only-binary", ":all:", "--no-deps"]
    subprocess.run([*pip, *platform, "--dest", folder, *PACKAGES], check=True)
    return tuple(stored(path) for path in sorted(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def own_wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], StoredFile]:
    """Return a function that makes a wheel of one module, ``mine``, with the given source."""

    def make(source: str) -> StoredFile:
        folder = tmp_path_factory.mktemp("own")
        return stored(make_own_wheel(folder, source))

    return make


def make_own_wheel(folder: Path, source: str) -> Path:
    filename, content = make_wheel("mine", "0.1", files={"mine.py": source.encode()})
    path = folder / filename
    path.write_bytes(content)
    return path


def make_lock(base: BaseImage, wheels: tuple[StoredFile, ...], own: tuple[StoredFile, ...]) -> Lock:
    packages, vendored = [], []
    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel.filename)
        artifact = Artifact(wheel.filename, f"https://index.example/{wheel.filename}", wheel.digest)
        packages.append(LockedPackage(name, str(version), artifact))
    for wheel in own:
        name, version, _, _ = parse_wheel_filename(wheel.filename)
        source = Source("directory", url="file:///src/mine")
        planned = PlannedPackage(name, str(version), Level.EXACT, f"=={version}", "local", source)
        vendored.append(VendoredPackage(name, str(version), wheel.digest, planned))
    packages.sort(key=lambda package: package.name)
    deviation = Deviation(packages[0].name, "0", packages[0].version, Level.EXACT, AWKWARD)
    target = Target(LINUX_AMD64, base.python_version, base.glibc)
    return Lock(target, tuple(packages), tuple(vendored), (deviation,))


@pytest.fixture(scope="module")
def make(
    base: BaseImage, wheels: tuple[StoredFile, ...], own_wheel: Callable[[str], StoredFile]
) -> Callable[..., BuildContext]:
    """Return a factory of contexts: the wheels from PyPI below, one of the user's own above."""

    def make(source: str = "answer = 42\n", *, templates: Path | None = None) -> BuildContext:
        own = (own_wheel(source),)
        lock = make_lock(base, wheels, own)
        return make_context(
            lock,
            base=base,
            environment_hash=lock.digest,
            name="imagesync-test-verify:" + lock.digest[7:23],
            packages=Wheels(wheels),
            vendored=Wheels(own),
            installer=Path(uv.find_uv_bin()),
            templates=templates,
            version="0.1.0",
        )

    return make


@pytest.fixture(scope="module")
def build(ours: Engine) -> Iterator[Callable[[Iterator[bytes]], str]]:
    """Return a function that builds an image without a network; at the end what it made goes."""
    made = []

    def build(archive: Iterator[bytes]) -> str:
        made.append(ours.build(archive, BuildRequest("none", "linux/amd64"), progress=SilentProgress()))
        return made[-1]

    yield build
    for image in made:
        ours.remove(image)


@pytest.fixture(scope="module")
def context(make: Callable[..., BuildContext]) -> BuildContext:
    return make()


@pytest.fixture(scope="module")
def image(context: BuildContext, build: Callable[[Iterator[bytes]], str], ours: Engine) -> str:
    image = build(stream_files(context.files))
    # Without a name it couldn't be built upon.
    ours.tag(image, context.name)
    return image


@pytest.fixture
def derived(engine: docker.DockerClient, ours: Engine, image: str) -> Iterator[MakeImage]:
    """Return a factory of images in which root has run a command; at the end they go.

    Not by builds: Docker 20.10's cache may have lost a layer of the image (docs/engines.md).
    """
    made = []

    def derive(command: str, *, user: str = "1000:1000") -> str:
        container = engine.containers.create(image, ["sh", "-c", command], user="0:0", network_mode="none")
        try:
            container.start()
            assert container.wait()["StatusCode"] == 0, container.logs().decode()
            changes = [f"USER {user}", 'CMD ["python"]']
            made.append(str(container.commit(changes=changes).id))
        finally:
            container.remove(force=True)
        return made[-1]

    yield derive
    for changed in made:
        ours.remove(changed)


def layers(engine: docker.DockerClient, image: str) -> list[str]:
    found: list[str] = engine.images.get(image).attrs["RootFS"]["Layers"]
    return found


def output(ours: Engine, image: str, *command: str, user: str | None = None) -> str:
    result = ours.run(RunRequest(image, command, user=user))
    assert result.exit_code == 0, result.stderr.decode()
    return result.stdout.decode()


def test_image_is_what_its_lock_says(ours: Engine, context: BuildContext, image: str) -> None:
    verify(ours, image, lock=context.lock, critical_imports=["numpy", "mine"], progress=SilentProgress())


def test_labels_arrive_as_they_were_meant(ours: Engine, context: BuildContext, image: str) -> None:
    inspected = ours.inspect(image)
    assert inspected is not None
    assert {name: inspected.labels[name] for name in context.labels} == dict(context.labels)
    assert json.loads(inspected.labels["dev.imagesync.deviations"])[0]["reason"] == AWKWARD
    assert inspected.user == "1000:1000"


@pytest.mark.parametrize("user", [None, "12345", "12345:12345", "0:0"])
def test_any_user_can_run_it(ours: Engine, image: str, user: str | None) -> None:
    script = (
        "import getpass, os, pathlib, sys, msgpack, mine, numpy;"
        "(pathlib.Path.home() / 'x').touch(); pathlib.Path('y').touch();"
        "print(getpass.getuser(), sys.prefix, mine.answer, os.environ['VIRTUAL_ENV'])"
    )
    assert output(ours, image, "python", "-c", script, user=user).split() == [
        "imagesync",
        "/opt/env",
        "42",
        "/opt/env",
    ]


def test_docker_run_takes_a_command_as_it_is(engine: docker.DockerClient, image: str) -> None:
    printed = engine.containers.run(image, ["python", "-c", "print('only this')"], remove=True)
    assert printed == b"only this\n"


def test_root_imports_without_writing_bytecode(ours: Engine, image: str) -> None:
    script = (
        "touch /tmp/before; python -c 'import click, numpy.testing, packaging.specifiers, setuptools, toolz';"
        " find /opt/env -newer /tmp/before"
    )
    assert output(ours, image, "sh", "-c", script, user="0:0") == ""


def test_nothing_but_the_packages_stays(
    ours: Engine, engine: docker.DockerClient, image: str, base: BaseImage, tmp_path: Path
) -> None:
    saved = tmp_path / "image.tar"
    with saved.open("wb") as file:
        for piece in engine.images.get(image).save(named=False):
            file.write(piece)
    names: list[str] = []
    with tarfile.open(saved) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        for layer in manifest[0]["Layers"][len(layers(engine, base.reference)) :]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as content:
                members = content.getmembers()
            names += [member.name for member in members]
            assert {member.uid for member in members} <= {0}
    outside = {name for name in names if name.split("/")[0] not in {"opt", ""}}
    # The engine itself mounts resolv.conf and hosts into each step.
    profile = {"etc/profile.d", "etc/profile.d/imagesync.sh"}
    assert outside <= {"etc", "etc/hosts", "etc/resolv.conf"} | profile
    inside = [name.split("/") for name in names if name.startswith("opt/")]
    assert {parts[2] for parts in inside if len(parts) > 2} == {
        "bin",
        "include",
        "lib",
        "lib64",
        "pyvenv.cfg",
    }
    assert not [name for name in names if name.endswith((".whl", "/uv", "direct_url.json"))]
    history = json.dumps(engine.api.history(image))
    assert str(Path.home()) not in history


def test_change_of_own_code_leaves_the_layers_below(
    engine: docker.DockerClient,
    make: Callable[..., BuildContext],
    build: Callable[[Iterator[bytes]], str],
    image: str,
    ours: Engine,
) -> None:
    changed = build(stream_files(make("answer = 43\n").files))
    before, after = layers(engine, image), layers(engine, changed)
    assert len(before) == len(after)
    differing = [index for index, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    assert len(differing) == 1
    assert output(ours, changed, "python", "-c", "import mine; print(mine.answer)") == "43\n"
    sizes = [layer["Size"] for layer in engine.api.history(changed) if layer["Size"]]
    assert sizes[0] < 100_000


def test_users_block_reaches_the_image(
    make: Callable[..., BuildContext],
    build: Callable[[Iterator[bytes]], str],
    ours: Engine,
    tmp_path: Path,
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "motd").write_text("hello\n")
    (tmp_path / "Dockerfile.j2").write_text(
        '{% extends "imagesync/Dockerfile.j2" %}\n'
        "{% block after_packages %}\nCOPY files/motd /etc/motd\n{% endblock %}\n"
    )
    image = build(stream_files(make(templates=tmp_path).files))
    assert output(ours, image, "cat", "/etc/motd") == "hello\n"


def test_written_folder_builds_the_same_layers(
    engine: docker.DockerClient,
    context: BuildContext,
    image: str,
    build: Callable[[Iterator[bytes]], str],
    tmp_path: Path,
) -> None:
    # As `docker build` sends a folder: with this machine's times and owners.
    write_context(context, tmp_path / "context")
    archive = tmp_path / "context.tar"
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted((tmp_path / "context").iterdir(), key=lambda path: path.name != "Dockerfile"):
            tar.add(path, path.name)
    assert layers(engine, build(iter([archive.read_bytes()]))) == layers(engine, image)


@pytest.mark.parametrize(
    ("command", "difference"),
    [
        ("rm -r /opt/env/lib/python3*/site-packages/toolz-*.dist-info", "toolz .* is missing"),
        (
            "cd /opt/env/lib/python3*/site-packages && cp -r toolz-*.dist-info other-1.0.dist-info"
            " && sed -i 's/^Name: .*/Name: Other/' other-1.0.dist-info/METADATA",
            r"other .* is there, and not in the lock",
        ),
        (
            "sed -i 's/^Version: .*/Version: 0.0.1/' /opt/env/lib/*/site-packages/click-*/METADATA",
            r"click is 0\.0\.1 instead of",
        ),
        ("rm /opt/env/lib/python3*/site-packages/click/core.py", r"click/core\.py is missing"),
        (
            "cd /opt/env/lib/python3*/site-packages && echo >>click/core.py",
            r"click/core\.py has \d+ bytes",
        ),
        (
            "rm /opt/env/lib/python3*/site-packages/click/__pycache__/core.*",
            r"click/core\.py has no valid bytecode",
        ),
        (
            "python -m compileall -q -f /opt/env/lib/python3*/site-packages/toolz",
            r"toolz/__init__\.py has no valid bytecode",
        ),
        ("chmod o+w /opt/env/lib/python3*/site-packages", "site-packages can be changed by"),
        (
            "cd /opt/env/lib/python3*/site-packages && rm -r __pycache__"
            " && echo 'import os; os._exit(3)' >mine.py",
            r"mine can't be imported: the interpreter ended with 3",
        ),
        ("rm /opt/env/bin/python*", "can't be started"),
    ],
)
def test_difference_is_named(
    ours: Engine, context: BuildContext, derived: MakeImage, command: str, difference: str
) -> None:
    broken = derived(command)
    with pytest.raises(VerifyError, match=difference):
        verify(ours, broken, lock=context.lock, critical_imports=["mine"], progress=SilentProgress())


def test_root_as_process_user_is_found(ours: Engine, context: BuildContext, derived: MakeImage) -> None:
    broken = derived("true", user="0:0")
    with pytest.raises(VerifyError, match="process user is root"):
        verify(ours, broken, lock=context.lock, critical_imports=[], progress=SilentProgress())


def test_package_that_cannot_be_imported_is_named(ours: Engine, context: BuildContext, image: str) -> None:
    with pytest.raises(VerifyError, match="nowhere can't be imported: ModuleNotFoundError"):
        verify(
            ours, image, lock=context.lock, critical_imports=["click", "nowhere"], progress=SilentProgress()
        )
