"""A private index with a password: the image is built, and the password is nowhere."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import Fault, LocalIndex
from tests.passwords import Password

# With characters that URLs quote, so that both spellings are looked for.
PASSWORD = Password("jane.doe", "s3cret/Passw:rd@42")


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex(username=PASSWORD.user, password=PASSWORD.word) as index:
        index.add_wheel("alder", "1.0.0", requires=["birch>=2"])
        index.add_wheel("birch", "2.1.0")
        yield index


@pytest.fixture
def local(index: LocalIndex, base_python: Path, tmp_path: Path) -> LocalEnvironment:
    return make_environment(
        tmp_path / "env",
        packages=["alder"],
        python=base_python,
        arguments=["--index-url", index.url_with_credentials],
    )


def by_pip_configuration(index: LocalIndex, folder: Path) -> dict[str, str]:
    (folder / "pip.conf").write_text(f"[global]\nindex-url = {index.url_with_credentials}\n")
    return {"PIP_CONFIG_FILE": str(folder / "pip.conf")}


def by_environment(index: LocalIndex, folder: Path) -> dict[str, str]:
    return {"PIP_INDEX_URL": index.url_with_credentials}


def by_netrc(index: LocalIndex, folder: Path) -> dict[str, str]:
    netrc = folder / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {PASSWORD.user} password {PASSWORD.word}\n")
    netrc.chmod(0o600)
    return {"PIP_INDEX_URL": index.url, "NETRC": str(netrc)}


@pytest.mark.usefixtures("new_packages")
@pytest.mark.parametrize(
    ("configure", "resolver"),
    [
        (by_pip_configuration, "uv"),
        (by_environment, "pip-tools"),
        (by_netrc, "uv"),
        (by_netrc, "pip-tools"),
    ],
)
def test_password_is_nowhere(
    image_cli: CommandLine,
    index: LocalIndex,
    local: LocalEnvironment,
    cache_dir: Path,
    tmp_path: Path,
    engine: docker.DockerClient,
    configure: object,
    resolver: str,
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    cli = image_cli.with_environ(
        **configure(index, secrets),
        VIRTUAL_ENV=local.prefix,
        IMAGESYNC_CACHE_DIR=cache_dir,
        IMAGESYNC_RESOLVER=resolver,
    )
    scanned = cli("scan", "--format", "json")
    assert index.url in scanned.json()["indexes"], "the index is named, without the password"
    finished = [
        scanned,
        cli("scan"),
        cli("plan"),
        cli("plan", "--format", "json"),
        cli("lock", "--format", "json", "--output-file", "requirements.txt"),
        cli("render", "--output-dir", "context"),
        cli("build", "--metadata-file", "metadata.json"),
    ]
    reference = finished[-1].reference
    # What goes wrong tells more than what works: here it has to say where it looked.
    wheel = index.add_wheel("cedar", "1.0")
    local.install("--index-url", index.url_with_credentials, "cedar")
    index.fault(wheel, Fault(status=404))
    finished.append(cli("build"))
    assert "repacked: cedar 1.0" in finished[-1].stderr
    index.fault(wheel, Fault(status=403))
    finished.append(cli.run("build", "--no-cache"))
    assert finished[-1].returncode == 1
    assert "cedar" in finished[-1].stderr

    PASSWORD.assert_absent_from_output(finished)
    PASSWORD.assert_absent_below(cache_dir, cli.cwd)
    PASSWORD.assert_absent_from_image(engine, reference)


def test_the_search_finds_what_is_there() -> None:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pip.conf", f"password = {quote(PASSWORD.word, safe='')}")
    with pytest.raises(AssertionError, match=r"pip\.conf"):
        PASSWORD.assert_absent_inside(gzip.compress(wheel.getvalue()), "a layer")
