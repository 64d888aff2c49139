"""Whole environments, from how they are made to what runs in their image: the folders of ``tests/cases``."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
from testcontainers.core.container import DockerContainer

from tests.channels.environments import CondaEnvironment, make_conda_environment
from tests.commands import BIN, CommandLine
from tests.environments import LocalEnvironment, make_environment, run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.beside
CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "cases").glob("*/case.toml"))

LIST_INSTALLED = r"""
import importlib.metadata, json, os, pathlib, sys

def identity(distribution):
    # METADATA that isn't UTF-8 is in the image as it is here.
    text = distribution.locate_file(f"{distribution._path}/METADATA").read_bytes().decode(errors="replace")
    fields = dict(line.split(": ", 1) for line in text.partition("\n\n")[0].splitlines() if ": " in line)
    return fields["Name"], fields["Version"]

print(json.dumps({
    "uid": os.getuid(),
    "writable": os.access(sys.prefix, os.W_OK),
    "prefix": sys.prefix,
    "packages": dict(map(identity, importlib.metadata.distributions())),
    "conda": [json.loads(p.read_text())["name"] for p in pathlib.Path(sys.prefix).glob("conda-meta/*.json")],
}))
"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(
    case: Path,
    tmp_path: Path,
    image_cli: CommandLine,
    base_python: Path,
    engine: docker.DockerClient,
    request: pytest.FixtureRequest,
) -> None:
    wanted = tomllib.loads((case / "case.toml").read_text(encoding="utf-8"))
    for command in wanted.get("needs", ()):
        if shutil.which(command) is None:
            pytest.skip(f"no {command} on this machine")
    folder = tmp_path / wanted.get("folder", "case")
    shutil.copytree(case, folder)
    if "conda" in wanted:
        environment = prepare_conda(wanted, folder, channel=request.getfixturevalue("channel"))
    else:
        environment = prepare(wanted, folder, python=base_python)
    cli = CommandLine({**image_cli.environ, **active(environment)}, folder)
    # An environment of another system can only be read.
    where = ("--prefix", environment.prefix) if "platform" in wanted.get("conda", {}) else ()

    scanned = cli("scan", *where, "--format", "json").json()
    check_scan(scanned, wanted.get("scan", {}))

    planned = cli("plan", *where, "--format", "json").json()
    check_plan(planned, wanted.get("plan", {}), scanned)

    for refusal in wanted.get("refused", ()):
        check_refused(cli, where, refusal)
    if "refused" in wanted:
        return
    reference, metadata = build(cli, folder, where)
    assert not metadata["cached"]
    check_image(reference, planned, metadata)
    in_container(reference, ["python", "/verify.py"], verify=case / "verify.py")

    again, metadata_again = build(cli, folder, where)
    assert again == reference
    assert metadata_again == {**metadata, "cached": True}
    assert {tag for image in engine.images.list(reference.rpartition(":")[0]) for tag in image.tags} == {
        reference
    }
    if wanted.get("locked"):
        built = build_locked(cli, folder, elsewhere=CommandLine(image_cli.environ, tmp_path / "ci"))
        in_container(built, ["python", "/verify.py"], verify=case / "verify.py")


def build_locked(cli: CommandLine, folder: Path, *, elsewhere: CommandLine) -> str:
    """Lock the environment into a file, and build that where there is nothing but the file and its wheels."""
    elsewhere.cwd.mkdir()
    cli("lock", "-o", elsewhere.cwd / "conda-lock.yml")
    fits = cli("lock", "--check", elsewhere.cwd / "conda-lock.yml")
    assert "fits the environment" in fits.stdout
    shutil.move(folder, folder.with_name("gone"))
    return elsewhere.with_environ(PATH=f"{BIN}:/usr/bin:/bin")("build", "--locked").reference


def prepare(wanted: Mapping[str, Any], folder: Path, *, python: Path) -> LocalEnvironment:
    """Make the environment that a case describes."""
    places = {"folder": folder, "prefix": folder / "env", "uv": BIN / "uv"}

    def words(template: Iterable[str]) -> list[str]:
        return [word.format(**places) for word in template]

    for command in wanted.get("before", ()):
        run(words(command))
    environment = make_environment(
        folder / "env",
        packages=words(wanted.get("packages", ())),
        python=python,
        editable=[folder / project for project in wanted.get("editable", ())],
        installer=wanted.get("installer", "uv"),
    )
    places |= {"python": environment.python, "site_packages": environment.site_packages}
    for command in wanted.get("after", ()):
        run(words(command))
    if settings := wanted.get("settings"):
        (folder / "imagesync.toml").write_text(as_toml(settings), encoding="utf-8")
    return environment


def prepare_conda(wanted: Mapping[str, Any], folder: Path, *, channel: Path) -> CondaEnvironment:
    """Make the conda environment that a case describes."""
    conda = wanted["conda"]
    environment = make_conda_environment(
        channel,
        conda["packages"],
        folder / "env",
        platform=conda.get("platform", "linux-64"),
        alternative_prefix=conda.get("written_prefix"),
        forced=conda.get("forced", ()),
    )
    if packages := wanted.get("packages"):
        environment.install(*packages)
    for project in wanted.get("editable", ()):
        environment.install("--no-deps", "--editable", folder / project)
    places = {
        "folder": folder,
        "prefix": folder / "env",
        "site_packages": environment.site_packages,
        "uv": BIN / "uv",
    }
    for command in wanted.get("after", ()):
        run([word.format(**places) for word in command])
    if settings := wanted.get("settings"):
        (folder / "imagesync.toml").write_text(as_toml(settings), encoding="utf-8")
    return environment


def check_refused(cli: CommandLine, where: Iterable[str | Path], wanted: Mapping[str, Any]) -> None:
    """Check that no image comes of it, what is said instead, and that it goes on where that is followed."""
    finished = cli.run(*wanted["command"], *where)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    rest = finished.stderr
    for text in wanted["says"]:
        _, found, rest = rest.partition(text)
        assert found, f"{text!r} isn't said, or not in this place:\n{finished.stderr}"
    for text in wanted.get("never", ()):
        assert text not in finished.stderr
    if "remedy" in wanted:
        cli(*wanted["remedy"], *where)


def active(environment: LocalEnvironment) -> dict[str, str]:
    """Return the variables by which a command finds an environment that is activated."""
    if isinstance(environment, CondaEnvironment):
        return environment.activated
    return {"VIRTUAL_ENV": str(environment.prefix)}


def as_toml(settings: Mapping[str, Any]) -> str:
    """Return settings as TOML; JSON's strings, numbers and arrays are TOML's too."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if not isinstance(value, dict)]
    tables = [f"[{key}]\n{as_toml(value)}" for key, value in settings.items() if isinstance(value, dict)]
    return "\n".join([*plain, *tables]) + "\n"


def check_scan(scanned: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    packages = {package["name"]: package for package in scanned["packages"]}
    assert list(packages) == sorted(packages)
    records = {record["name"]: record for record in scanned["conda"]}
    for name, fragment in wanted.get("conda", {}).items():
        assert_holds(records[name], fragment, f"scan of the record of {name}")
    for name, fragment in wanted.get("packages", {}).items():
        assert_holds(packages[name], fragment, f"scan of {name}")
    assert not packages.keys() & set(wanted.get("absent", ()))
    for fragment in wanted.get("findings", ()):
        assert any(holds(finding, fragment) for finding in scanned["findings"]), (
            fragment,
            scanned["findings"],
        )
    if "findings" not in wanted:
        assert [finding for finding in scanned["findings"] if finding["severity"] != "info"] == []


def check_plan(planned: Mapping[str, Any], wanted: Mapping[str, Any], scanned: Mapping[str, Any]) -> None:
    packages = {package["name"]: package for package in planned["packages"]}
    conda = {package["name"]: package for package in planned["conda"]}
    for name, fragment in wanted.get("conda", {}).items():
        assert_holds(conda[name], fragment, f"plan of the conda package {name}")
    left_out = {package["name"] for package in planned["left_out"]}
    for name, fragment in wanted.get("packages", {}).items():
        assert_holds(packages[name], fragment, f"plan of {name}")
    assert not packages.keys() & set(wanted.get("absent", ()))
    assert set(wanted.get("left_out", ())) <= left_out
    for fragment in wanted.get("findings", ()):
        assert any(holds(finding, fragment) for finding in planned["findings"]), planned["findings"]
    assert_holds(planned["code"], wanted.get("code", {}), "plan of the code that belongs to no package")
    installed = {package["name"] for package in scanned["packages"] if not package["conda"]}
    records = {record["name"] for record in scanned["conda"]}
    assert installed <= packages.keys() | left_out, "nothing is dropped silently"
    assert records <= conda.keys() | left_out, "nothing is dropped silently"


def build(cli: CommandLine, folder: Path, where: Iterable[str | Path]) -> tuple[str, dict[str, Any]]:
    metadata_file = folder / "metadata.json"
    metadata_file.unlink(missing_ok=True)
    reference = cli("build", *where, "--metadata-file", metadata_file).reference
    metadata = json.loads(metadata_file.read_text(encoding="utf-8"))
    assert metadata["reference"] == reference
    return reference, metadata


def check_image(reference: str, planned: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Check that the image holds the planned packages, and runs without rights."""
    facts = json.loads(in_container(reference, ["python", "-c", LIST_INSTALLED]))
    assert facts["uid"] != 0
    assert not facts["writable"]
    deviations = {deviation["name"]: deviation["locked"] for deviation in metadata["deviations"]}
    names = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in facts["packages"].items()}
    for package in planned["packages"]:
        if package["name"] != "python" and package["version"]:
            expected = deviations.get(package["name"], package["version"])
            assert names.pop(package["name"]) == expected
    assert not names.keys() & {package["name"] for package in planned["left_out"]}
    assert {package["name"] for package in planned["conda"]} <= {*facts["conda"], *deviations}


def in_container(reference: str, command: list[str], *, verify: Path | None = None) -> str:
    """Return what a command printed in a container of the image, without a network."""
    container = DockerContainer(reference).with_command(command).with_kwargs(network_mode="none")
    if verify is not None:
        container.with_volume_mapping(str(verify), "/verify.py", "ro")
    with container:
        wrapped = container.get_wrapped_container()
        status = wrapped.wait(timeout=120)["StatusCode"]
        stdout, stderr = wrapped.logs(stderr=False).decode(), wrapped.logs(stdout=False).decode()
    assert status == 0, f"{command} in {reference} ended with {status}\n{stdout}{stderr}"
    return stdout


def assert_holds(value: object, fragment: object, where: str) -> None:
    assert holds(value, fragment), f"{where}: {value}\ndoesn't hold {fragment}"


def holds(value: Any, fragment: Any) -> bool:
    """Return whether everything that *fragment* says is so in *value*."""
    if isinstance(fragment, dict):
        return isinstance(value, dict) and all(
            key in value and holds(value[key], wanted) for key, wanted in fragment.items()
        )
    if isinstance(fragment, str) and fragment.startswith("re:"):
        return isinstance(value, str) and re.fullmatch(fragment.removeprefix("re:"), value) is not None
    return bool(value == fragment)
