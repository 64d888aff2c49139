from __future__ import annotations

import io
import json
import os
import platform
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from imagesync.cli.doctor import diagnose, healthy, print_checks
from imagesync.cli.doctor_checks import Check
from imagesync.core.platforms import PLATFORMS
from imagesync.registry.oci_layout import ImageLayout
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from tests.host_platform import NEEDS_OWN_SYSTEM
from tests.indexes import LocalIndex
from tests.oci_images import small_image
from tests.unit.image.conda.test_conda_python import make_channel

HERE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return variables without configuration of this machine: no engine, an empty store."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
        "DOCKER_HOST": f"unix://{tmp_path}/no-engine.sock",
        "IMAGESYNC_CACHE_DIR": str(tmp_path / "store"),
    }


def checks_of(environ: dict[str, str], *, settings: Settings | None = None) -> dict[str, Check]:
    settings = settings or Settings(base=HERE, builder="docker")
    return {
        check.name: check for check in diagnose(settings, environ=environ, scan=lambda: scan(environ=environ))
    }


def with_index(environ: dict[str, str], url: str) -> dict[str, str]:
    kept = {key: value for key, value in environ.items() if key not in {"PIP_NO_INDEX", "PIP_FIND_LINKS"}}
    return {**kept, "PIP_INDEX_URL": url, "PIP_KEYRING_PROVIDER": "disabled"}


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex(username="me", password="hidden-word") as running:
        running.add_wheel("pip", "99.0")
        yield running


@NEEDS_OWN_SYSTEM
def test_diagnosis_checks_everything_that_a_build_needs(environ: dict[str, str]) -> None:
    checks = checks_of(environ)
    names = ["interpreter", "index", "engine", "base", "cache", "git", "uv", "pip-tools"]
    assert list(checks) == names
    # Free space depends on the machine; the cache has its own test.
    ok = {name for name, check in checks.items() if check.status == "ok"} - {"cache"}
    assert ok == {*names} - {"engine", "base", "cache"}


def test_missing_engine_fails_with_a_hint(environ: dict[str, str]) -> None:
    checks = checks_of(environ)
    assert checks["engine"].status == "failed"
    assert "no-engine.sock" in checks["engine"].message
    assert checks["engine"].hint
    assert not healthy(checks.values())


def test_engine_is_not_needed_for_a_base_in_a_layout(environ: dict[str, str], tmp_path: Path) -> None:
    small_image(ImageLayout(tmp_path / "base"), {"bin/sh": b""})
    checks = checks_of(environ, settings=Settings(base=f"oci:{tmp_path / 'base'}"))
    assert {checks[name].status for name in ("interpreter", "engine", "base")} == {"ok"}
    assert "none is needed" in checks["engine"].message


@pytest.mark.parametrize(
    ("base", "message"),
    [("oci:{}/gone", "doesn't exist"), ("127.0.0.1:1/gone:1", "can't be reached: connection refused")],
)
def test_base_that_can_not_be_had_without_an_engine_fails(
    environ: dict[str, str], tmp_path: Path, base: str, message: str
) -> None:
    check = checks_of(environ, settings=Settings(base=base.format(tmp_path), builder="oci"))["base"]
    assert check.status == "failed"
    assert message in check.message


def test_engine_that_is_missing_is_a_warning_where_images_are_built_without_one(
    environ: dict[str, str],
) -> None:
    checks = checks_of(environ, settings=Settings(base="127.0.0.1:1/gone:1"))
    assert checks["engine"].status == "warning"
    assert checks["engine"].message.endswith("Images are built without one.")


def test_engine_is_not_needed_for_several_platforms(environ: dict[str, str]) -> None:
    settings = Settings(base="127.0.0.1:1/gone:1", platforms=tuple(map(str, PLATFORMS)))
    checks = checks_of(environ, settings=settings)
    assert "none is needed" in checks["engine"].message
    assert "connection refused" in checks["base"].message


@pytest.mark.parametrize("builder", ["auto", "oci"])
def test_setting_that_only_an_engine_applies_fails_where_none_builds(
    environ: dict[str, str], builder: Literal["auto", "oci"]
) -> None:
    settings = Settings(base="127.0.0.1:1/gone:1", builder=builder, apt=("libgl1",))
    check = checks_of(environ, settings=settings)["engine"]
    assert check.status == "failed"
    assert "apt needs a running container" in check.message


def test_environment_with_warnings_alone_is_healthy() -> None:
    assert healthy([Check("git", "warning", "not found"), Check("uv", "ok", "uv 1")])


def test_interpreter_other_than_that_of_the_base_fails(environ: dict[str, str]) -> None:
    other = "python:3.9-slim"
    settings = Settings(base=other, builder="docker", python_source="base")
    check = checks_of(environ, settings=settings)["interpreter"]
    assert check.status == "failed"
    assert check.message.endswith(f"the base {other} has 3.9")
    assert check.hint is not None
    assert f"--base {HERE}" in check.hint


@pytest.mark.parametrize(
    ("source", "version", "status"),
    [
        ("auto", platform.python_version(), "ok"),
        ("auto", "3.9.1", "failed"),
        ("conda", platform.python_version(), "ok"),
    ],
)
def test_python_of_a_channel_takes_the_place_of_that_of_the_base(
    environ: dict[str, str], tmp_path: Path, source: str, version: str, status: str
) -> None:
    settings = Settings(
        base="python:3.9-slim",
        builder="docker",
        python_source=source,
        channels=(make_channel(tmp_path / "channel", version),),
        cache_dir=tmp_path / "store",
    )
    assert checks_of(environ, settings=settings)["interpreter"].status == status


def test_interpreter_passes_with_a_base_of_unknown_python(environ: dict[str, str]) -> None:
    assert (
        checks_of(environ, settings=Settings(base="example.com/mine:1", builder="docker"))[
            "interpreter"
        ].status
        == "ok"
    )


def test_missing_interpreter_fails(environ: dict[str, str], tmp_path: Path) -> None:
    missing = tmp_path / "python"
    checks = diagnose(
        Settings(builder="docker"), environ=environ, scan=lambda: scan(python=missing, environ=environ)
    )
    assert checks[0].name == "interpreter"
    assert checks[0].status == "failed"
    assert str(tmp_path / "python") in checks[0].message


def test_index_with_a_password_passes_and_hides_it(environ: dict[str, str], index: LocalIndex) -> None:
    check = checks_of(with_index(environ, index.url_with_credentials))["index"]
    assert check.status == "ok"
    assert index.origin in check.message
    assert "hidden-word" not in check.message


def test_index_that_refuses_credentials_fails_with_a_hint_to_netrc(
    environ: dict[str, str], index: LocalIndex
) -> None:
    wrong = index.url_with_credentials.replace("hidden-word", "wrong-word")
    check = checks_of(with_index(environ, wrong))["index"]
    assert check.status == "failed"
    assert "401" in check.message
    assert "wrong-word" not in check.message
    assert check.hint is not None
    assert "netrc" in check.hint


def test_index_without_the_requested_project_is_a_warning(environ: dict[str, str]) -> None:
    with LocalIndex() as empty:
        check = checks_of(with_index(environ, empty.url))["index"]
    assert check.status == "warning"
    assert "404" in check.message


def test_index_with_an_untrusted_certificate_fails_until_pip_has_it(environ: dict[str, str]) -> None:
    with LocalIndex(tls=True) as private:
        check = checks_of(with_index(environ, private.url))["index"]
        assert check.status == "failed"
        assert "certificate" in check.message
        assert check.hint is not None
        assert "global.cert" in check.hint
        trusting = {**with_index(environ, private.url), "PIP_CERT": str(private.ca_file)}
        assert "404" in checks_of(trusting)["index"].message


def test_unreachable_index_fails_and_hides_the_password(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    check = checks_of(with_index(environ, f"http://me:hidden-word@127.0.0.1:{port}/simple"))["index"]
    assert check.status == "failed"
    assert "refused" in check.message
    assert "hidden-word" not in check.message


@contextmanager
def silent_server() -> Iterator[int]:
    """Accept connections and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            held.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        thread.join()
        for connection in held:
            connection.close()


def test_silent_index_fails_after_the_timeout_of_pip(environ: dict[str, str]) -> None:
    with silent_server() as port:
        impatient = {**with_index(environ, f"http://127.0.0.1:{port}/simple"), "PIP_DEFAULT_TIMEOUT": "0.5"}
        check = checks_of(impatient)["index"]
    assert check.status == "failed"
    assert "timed out" in check.message


def test_missing_find_links_folder_is_a_warning(environ: dict[str, str], tmp_path: Path) -> None:
    check = checks_of({**environ, "PIP_FIND_LINKS": str(tmp_path / "gone")})["index"]
    assert check.status == "warning"
    assert f"{tmp_path / 'gone'} doesn't exist" in check.message


def test_neither_index_nor_find_links_fails(environ: dict[str, str]) -> None:
    del environ["PIP_FIND_LINKS"]
    assert checks_of(environ)["index"].status == "failed"


def test_cache_check_names_the_folder_and_creates_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    check = checks_of(environ)["cache"]
    assert check.message.startswith(f"{tmp_path / 'store'} holds 0 kB, ")
    enough = shutil.disk_usage(tmp_path).free >= 2_000_000_000
    assert check.status == ("ok" if enough else "warning")
    assert not (tmp_path / "store").exists(), "the check creates nothing"


def test_cache_folder_that_is_a_file_fails(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    check = checks_of(environ)["cache"]
    assert check.status == "failed"
    assert check.hint is not None
    assert "IMAGESYNC_CACHE_DIR" in check.hint


def test_missing_git_is_a_warning(environ: dict[str, str], tmp_path: Path) -> None:
    check = checks_of({**environ, "PATH": str(tmp_path)})["git"]
    assert check.status == "warning"
    assert check.hint is not None


def test_table_has_hints_below_their_checks_and_the_verdict_last() -> None:
    stream = io.StringIO()
    print_checks(
        [Check("uv", "ok", "uv 0.13.9"), Check("engine", "failed", "no engine [red]", "Start it.")], stream
    )
    assert stream.getvalue() == (
        "  ok      uv      uv 0.13.9\n"
        "  failed  engine  no engine [red]\n"
        "                  -> Start it.\n"
        "1 problem to fix\n"
    )


def test_lines_of_messages_and_hints_are_rows_of_the_table() -> None:
    stream = io.StringIO()
    print_checks([Check("engine", "failed", "no engine\nat a socket", "Start it.\nOr use Podman.")], stream)
    assert stream.getvalue() == (
        "  failed  engine  no engine\n"
        "                  at a socket\n"
        "                  -> Start it.\n"
        "                     Or use Podman.\n"
        "1 problem to fix\n"
    )


def test_check_as_json_has_the_documented_keys() -> None:
    check = Check("uv", "ok", "uv 0.13.9")
    assert json.loads(json.dumps(check.to_dict())) == {
        "name": "uv",
        "status": "ok",
        "message": "uv 0.13.9",
        "hint": None,
    }
