"""Images that imagesync builds without a container engine, and what others' tools say of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from uv import find_uv_bin

from imagesync.core.files import write_text
from imagesync.registry.oci_layout import ImageLayout
from tests.commands import CommandLine
from tests.elf import compile_extension
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import LocalIndex
from tests.integration.oci_environment import python_base, small_environment, unpacked
from tests.oci_images import small_image

ROOT = Path(__file__).parents[2]
NO_ENGINE = "tcp://127.0.0.1:1"
MINOR = f"3.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    layout = tmp_path_factory.mktemp("base")
    python_base(ImageLayout(layout))
    return f"oci:{layout}"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalEnvironment:
    return small_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture
def oci_cli(cli: CommandLine, base: str, local: LocalEnvironment) -> CommandLine:
    return cli.with_environ(
        VIRTUAL_ENV=local.prefix, DOCKER_HOST=NO_ENGINE, IMAGESYNC_BASE=base, IMAGESYNC_PROFILE="none"
    )


def digest_of(layout: Path, reference: str) -> str:
    found = ImageLayout(layout).index().find(reference)
    assert found is not None
    return found.digest


def files_of(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())


def test_image_is_the_same_wherever_and_whenever_it_is_built(
    oci_cli: CommandLine, tmp_path: Path, cache_dir: Path
) -> None:
    reference = oci_cli("build").reference
    first = digest_of(cache_dir / "images", reference)
    for name in ("home", "temporary", "elsewhere"):
        (tmp_path / name).mkdir()
    other = CommandLine(
        {
            **oci_cli.environ,
            "HOME": str(tmp_path / "home"),
            "TMPDIR": str(tmp_path / "temporary"),
            "TZ": "Pacific/Kiritimati",
            "LC_ALL": "C",
            "PYTHONHASHSEED": "7",
            "IMAGESYNC_CACHE_DIR": str(tmp_path / "cold"),
        },
        cwd=tmp_path / "elsewhere",
    )
    mask = os.umask(0o077)
    try:
        # A cold store, and then its parts without the image.
        assert other("build").reference == reference
        assert digest_of(tmp_path / "cold" / "images", reference) == first
        warm = other("build", "--no-cache", "--output", "oci:image:latest")
    finally:
        os.umask(mask)
    assert warm.reference == reference
    assert digest_of(other.cwd / "image", "latest") == first


def other_hosts() -> list[str]:
    """Return each CPython from 3.10 to 3.13 that is on this machine, but for the one that runs this."""
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = []
    for minor in ("3.10", "3.11", "3.12", "3.13"):
        for python in (f"python{minor}", *map(str, sorted(installed.glob(f"{minor}.*/bin/python")))):
            # pyenv's shims of versions that aren't chosen don't run.
            with suppress(OSError, subprocess.CalledProcessError):
                subprocess.run([python, "-c", ""], check=True, capture_output=True)
                found += [python] if minor != MINOR else []
                break
    return found


def test_image_is_the_same_whichever_python_runs_imagesync(
    oci_cli: CommandLine, tmp_path: Path, cache_dir: Path
) -> None:
    hosts = other_hosts()
    if not hosts:
        pytest.skip("no CPython 3.10 on this machine")

    def build(host: tuple[int, str]) -> str:
        number, python = host
        folder = tmp_path / f"host {number}"
        for name in ("home", "temporary"):
            (folder / name).mkdir(parents=True)
        uv = [find_uv_bin(), "--quiet"]
        subprocess.run([*uv, "venv", "--python", python, folder / "host"], check=True)
        install = [*uv, "pip", "install", "--python", folder / "host", "--editable", ROOT]
        subprocess.run(install, check=True)
        other = CommandLine(
            {
                **oci_cli.environ,
                "HOME": str(folder / "home"),
                "TMPDIR": str(folder / "temporary"),
                "TZ": f"Etc/GMT+{number}",
                "PYTHONHASHSEED": str(number),
                "IMAGESYNC_CACHE_DIR": str(folder / "cold"),
            },
            cwd=folder,
            command=(folder / "host" / "bin" / "imagesync",),
        )
        return digest_of(folder / "cold" / "images", other("build").reference)

    first = digest_of(cache_dir / "images", oci_cli("build").reference)
    with ThreadPoolExecutor() as pool:
        assert set(pool.map(build, enumerate(hosts))) == {first}


def test_unchanged_environment_finds_its_image(oci_cli: CommandLine, cache_dir: Path) -> None:
    reference = oci_cli("build").reference
    again = oci_cli("build")
    assert again.reference == reference
    assert "Writing layers" not in again.stderr
    # With another compression the name is the same, and the bytes aren't.
    first = digest_of(cache_dir / "images", reference)
    assert oci_cli.with_environ(IMAGESYNC_COMPRESSION="zstd")("build").reference == reference
    assert digest_of(cache_dir / "images", reference) != first


def archives_in(store: Path) -> int:
    """Return how many wheels and archives of bytecode are in a store."""
    files = (path for path in (store / "blobs").rglob("*") if path.is_file())
    return sum(zipfile.is_zipfile(path) for path in files)


def test_archive_is_not_needed_where_its_part_is(oci_cli: CommandLine, cache_dir: Path) -> None:
    reference = oci_cli("build").reference
    first = digest_of(cache_dir / "images", reference)
    # Three wheels and their bytecode; the local one isn't fetched, so it stays.
    assert archives_in(cache_dir) == 6
    removed = oci_cli("cache", "prune", "--archives", "--format", "json").json()
    assert removed["files"] == 4
    assert archives_in(cache_dir) == 2
    # The layers have to be written again, of parts.
    for entry in (cache_dir / "layers").glob("*.json"):
        if '"layer"' in entry.read_text()[:40]:
            entry.unlink()
    again = oci_cli("build", "--no-cache", "--output", "oci:image:latest")
    assert again.reference == reference
    assert digest_of(oci_cli.cwd / "image", "latest") == first
    assert archives_in(cache_dir) == 2
    # Another compression has other parts: that needs the archives, which aren't kept.
    zstd = oci_cli.with_environ(IMAGESYNC_COMPRESSION="zstd", IMAGESYNC_KEEP_ARCHIVES="false")
    finished = zstd("build")
    assert finished.reference == reference
    assert "Fetching" in finished.stderr
    assert archives_in(cache_dir) == 2


def ship_an_ignored_module(project: Path) -> None:
    """Make *project* a repository that ignores a module of its wheel, as a generated version is."""
    text = (project / "pyproject.toml").read_text("utf-8")
    text = text.replace("flit_core>=3.8", "hatchling").replace("flit_core.buildapi", "hatchling.build")
    more = '[tool.hatch.build.targets.wheel]\ninclude = ["*.py"]\nartifacts = ["own_version.py"]\n'
    write_text(project / "pyproject.toml", text + more)
    write_text(project / "own_version.py", "version = '1.0'\n")
    write_text(project / ".gitignore", "own_version.py\n")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)


def test_image_made_after_a_readme_was_written_is_that_of_the_environment(
    oci_cli: CommandLine, tmp_path: Path
) -> None:
    local = small_environment(tmp_path)
    own_cli = oci_cli.with_environ(VIRTUAL_ENV=local.prefix)
    ship_an_ignored_module(tmp_path / "own-code")
    built = own_cli("build")
    assert built.stderr.count("Making wheels (") == 1
    first = built.reference
    write_text(tmp_path / "own-code" / "README.md", "How to use it.\n")
    write_text(own_cli.cwd / "imagesync.toml", "[env]\nA = 'b'\n")
    second = own_cli("build").reference
    assert second != first
    packages = [
        json.loads(own_cli("inspect", reference, "--format", "json").stdout)["packages"]
        for reference in (first, second)
    ]
    assert packages[0] == packages[1]


def test_others_read_the_image(oci_cli: CommandLine, tmp_path: Path) -> None:
    oci_cli("build", "--output", "oci:image:latest", "--output", "oci-archive:image.tar")
    folder = oci_cli.cwd
    inspected = subprocess.run(
        ["skopeo", "inspect", "--config", f"oci:{folder}/image:latest"], check=True, capture_output=True
    )
    config = json.loads(inspected.stdout)
    assert config["config"]["User"] == "1000:1000"
    assert config["config"]["Cmd"] == ["python"]
    assert "PATH=/opt/env/bin:/usr/local/bin:/usr/bin" in config["config"]["Env"]
    own = [entry["created_by"] for entry in config["history"] if "imagesync:" in entry.get("created_by", "")]
    assert any("toolz 1.0.0" in entry for entry in own)
    assert len(config["history"]) == len(config["rootfs"]["diff_ids"])
    subprocess.run(
        ["skopeo", "copy", "--quiet", f"oci-archive:{folder}/image.tar", f"oci:{tmp_path}/copy:x"], check=True
    )
    environment = unpacked(tmp_path / "copy", "x", tmp_path / "bundle") / "opt" / "env"
    assert (environment / "bin" / "python3").readlink() == Path("/usr/local/bin/python3")
    assert (environment / "bin" / "own").read_text().startswith("#!/opt/env/bin/python\n")
    packages = environment / "lib" / f"python{MINOR}" / "site-packages"
    found = set(files_of(packages))
    assert {
        "toolz/__init__.py",
        "own_code.py",
        f"__pycache__/own_code.cpython-{MINOR.replace('.', '')}.pyc",
    } <= found
    record = (packages / "toolz-1.0.0.dist-info" / "RECORD").read_text()
    assert {line.split(",")[0] for line in record.splitlines()} <= found


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("IMAGESYNC_APT", "git", "The setting apt needs a running container"),
        ("IMAGESYNC_RUN", "true", "The setting run needs a running container"),
        ("IMAGESYNC_TOOLCHAIN", "true", "The setting toolchain needs a running container"),
        ("IMAGESYNC_STRICT", "true", "The setting strict needs a running container"),
    ],
)
def test_what_needs_a_container_is_refused_by_name(
    oci_cli: CommandLine, variable: str, value: str, said: str
) -> None:
    finished = oci_cli.with_environ(**{variable: value}).run("build", "--builder", "oci")
    assert finished.returncode == 1
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr


def test_engine_that_is_needed_and_does_not_answer_is_said(oci_cli: CommandLine) -> None:
    quiet = oci_cli.with_environ(IMAGESYNC_BASE="debian:bookworm-slim")
    for command, variable in (
        (("build",), "true"),
        (("build", "--output", "docker"), ""),
        (("run", "true"), ""),
    ):
        finished = quiet.with_environ(IMAGESYNC_RUN=variable).run("--quiet", *command)
        assert finished.returncode == 1
        assert "No container engine answers at tcp://127.0.0.1:1" in finished.stderr
        assert "hint: Start that engine" in finished.stderr


def test_options_of_the_image_reach_its_configuration(oci_cli: CommandLine) -> None:
    write_text(oci_cli.cwd / "data.txt", "data\n")
    write_text(
        oci_cli.cwd / "imagesync.toml",
        'cmd = ["own"]\nworkdir = "/work"\nuser = "app:staff"\n'
        '[env]\nMODE = "fast"\n[labels]\nteam = "data"\n[files]\n"data.txt" = "/srv/data.txt"\n',
    )
    oci_cli("build", "--output", "oci:image:latest")
    layout = ImageLayout(oci_cli.cwd / "image")
    found = layout.index().find("latest")
    assert found is not None
    container = layout.image(found).config.container
    assert (container.cmd, container.working_dir, container.user) == (("own",), "/work", "app:staff")
    assert container.variables["MODE"] == "fast"
    assert container.labels["team"] == "data"
    root = unpacked(layout.root, "latest", oci_cli.cwd / "bundle")
    assert (root / "srv" / "data.txt").read_text() == "data\n"
    work = (root / "work").stat()
    assert (work.st_uid, work.st_gid) == (1234, 5)


def test_manifest_is_built_and_its_lock_is_kept_beside_it(
    oci_cli: CommandLine, index: LocalIndex, work_dir: Path
) -> None:
    index.add_wheel("lamp", "1.5")
    cli = oci_cli.with_environ(UV_DEFAULT_INDEX=index.url, PIP_INDEX_URL=index.url)
    (work_dir / "wanted").mkdir()
    write_text(work_dir / "wanted" / "requirements.in", "lamp>=1\n")
    built = cli("build", "--from", "wanted/requirements.in")
    assert "Wrote wanted/pylock.toml" in built.stderr
    index.add_wheel("lamp", "1.6")
    locked = cli("build", "--locked", "wanted/pylock.toml")
    assert locked.reference == built.reference
    assert cli("build", "--from", "wanted/requirements.in").reference != built.reference, "solved anew"
    write_text(work_dir / "wanted" / "pylock.toml", 'lock-version = "1.0"\ncreated-by = "uv"\n')
    refused = cli.run("build", "--from", "wanted/requirements.in")
    assert refused.returncode == 2
    assert "wanted/pylock.toml is there, and another tool wrote it." in refused.stderr


def test_image_is_verified_by_a_build_from_the_start(
    oci_cli: CommandLine, local: LocalEnvironment, tmp_path: Path, cache_dir: Path
) -> None:
    reference = oci_cli("build", "--output", "oci-archive:image.tar").reference
    digest = digest_of(cache_dir / "images", reference)
    # Also with another time, and other settings of the form.
    other = oci_cli.with_environ(
        IMAGESYNC_COMPRESSION="zstd", IMAGESYNC_KEEP_ARCHIVES="false", SOURCE_DATE_EPOCH="1700000000"
    )
    archives = archives_in(cache_dir)
    assert other("verify", reference).stdout.strip() == f"{reference}@{digest}"
    # Another process may use them, of which the cache of that build doesn't know.
    assert archives_in(cache_dir) >= archives
    source = local.prefix.parent / "own-code" / "own_code.py"
    before = source.read_text()
    write_text(source, before.replace("own", "other"))
    try:
        differing = oci_cli.run("verify", "oci-archive:image.tar")
    finally:
        write_text(source, before)
    assert differing.returncode == 1
    assert differing.stdout == ""
    assert "own_code" in differing.stderr
    assert digest_of(cache_dir / "images", reference) == digest


def test_base_image_that_lacks_a_platform_ends_the_command_before_anything_is_built(
    oci_cli: CommandLine, cache_dir: Path
) -> None:
    finished = oci_cli.run("build", "--platform", "linux/amd64", "--platform", "linux/arm64")
    assert finished.returncode == 1
    assert "isn't there for linux/arm64, but for linux/amd64." in finished.stderr
    assert "Writing layers" not in finished.stderr
    assert not [name for name in ImageLayout(cache_dir / "images").index().names if name[:9] == "imagesync"]


def test_verify_refuses_a_selection_without_a_file(oci_cli: CommandLine) -> None:
    finished = oci_cli.run("verify", "oci:image", "--group", "dev")
    assert finished.returncode == 2
    assert "choose from a file" in finished.stderr


def test_image_of_others_cant_be_verified(oci_cli: CommandLine, tmp_path: Path) -> None:
    small_image(ImageLayout(tmp_path / "other"), {"a": b"1"})
    finished = oci_cli.run("verify", f"oci:{tmp_path}/other")
    assert finished.returncode == 2
    assert "can't be verified" in finished.stderr


def test_library_that_the_base_lacks_is_named(oci_cli: CommandLine, tmp_path: Path) -> None:
    extension = compile_extension(tmp_path / "_light.so", needs=["libsodium.so.23"]).read_bytes()
    files = {"lamp/__init__.py": b"from . import _light\n", "lamp/_light.so": extension}
    with LocalIndex() as index:
        index.add_wheel("lamp", "1.0.0", tag="py3-none-manylinux_2_17_x86_64", files=files)
        local = make_environment(
            tmp_path / "env", packages=["lamp"], python=sys.executable, arguments=["--index-url", index.url]
        )
        command = oci_cli.with_environ(VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url)
        built = command("build")
    assert "warning: lamp 1.0.0 needs libsodium.so.23, which the base image" in built.stderr
    assert "name a base image that has it" in built.stderr
