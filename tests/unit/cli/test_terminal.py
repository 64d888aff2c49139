"""What commands print on a terminal of 60, 80 and 120 columns, and in a pipe."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.terminals import on_terminal

NAMES = [*(f"package-{number}" for number in range(40)), "opentelemetry-instrumentation-of-a-very-long-name"]
CONDA = [*(f"lib{number}" for number in range(40)), "azure-storage-files-datalake-cpp-with-a-long-name"]
FORGE = "https://conda.anaconda.org/conda-forge"
WIDTHS = (60, 80, 120)


def write_distribution(site_packages: Path, name: str, version: str = "1.2.3") -> None:
    folder = site_packages / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text("")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment of pip's with many packages, pip among them."""
    prefix = tmp_path_factory.mktemp("environment")
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    for name in (*NAMES, "pip", "setuptools"):
        write_distribution(prefix / "lib" / "python3.11" / "site-packages", name)
    return prefix


@pytest.fixture(scope="module")
def conda_prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment of conda's with many packages and long builds."""
    prefix = tmp_path_factory.mktemp("conda")
    (prefix / "conda-meta").mkdir()
    (prefix / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (prefix / "conda-meta" / "history").touch()
    for name in ("python", *CONDA):
        version = "3.11.9" if name == "python" else "2024.10.2.post1"
        build = "py311_mkl_py_hf3ee4f3_100_cuda12"
        (prefix / "conda-meta" / f"{name}.json").write_text(
            json.dumps(
                {
                    "name": name,
                    "version": version,
                    "build": build,
                    "build_number": 0,
                    "channel": FORGE,
                    "subdir": "linux-64",
                    "fn": f"{name}-{version}-{build}.conda",
                    "url": f"{FORGE}/linux-64/{name}-{version}-{build}.conda",
                    "files": ["bin/python3.11"],
                    "depends": [],
                    "requested_spec": "lib3 >=2024,<2025" if name == "lib3" else "None",
                }
            )
        )
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python3.11").touch()
    return prefix


def lines(cli: CommandLine, columns: int, *arguments: str | Path) -> list[str]:
    """Return the lines that a command shows on a terminal, without colours."""
    code = (
        f"import os, sys; os.chdir({str(cli.cwd)!r}); sys.argv = {['imagesync', *map(str, arguments)]!r}; "
        "from imagesync.cli.main import main; main()"
    )
    exit_code, out = on_terminal(code, columns=columns, environ={**cli.environ, "TERM": "xterm"})
    assert exit_code in {0, 1}, out
    return re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()


@pytest.mark.parametrize("columns", WIDTHS)
def test_scan_has_one_line_per_package(cli: CommandLine, prefix: Path, columns: int) -> None:
    shown = lines(cli, columns, "-q", "scan", "--prefix", prefix)
    assert max(map(len, shown)) <= max(columns, len(str(prefix)) + 1)
    assert sum("package-" in line for line in shown) == 40
    assert len(shown) < 55
    piped = cli("scan", "--prefix", prefix).stdout
    assert f"  {NAMES[-1]}  1.2.3    pip" in piped
    assert "Cut to" not in piped


@pytest.mark.parametrize("columns", WIDTHS)
def test_scan_of_conda_has_one_line_per_package(cli: CommandLine, conda_prefix: Path, columns: int) -> None:
    shown = lines(cli, columns, "-q", "scan", "--prefix", conda_prefix)
    assert sum(bool(re.match(r"  (lib\d+|azure-)", line)) for line in shown) == 41
    assert all(len(line) <= columns for line in shown if line.startswith("  lib"))
    assert len(shown) < 60
    piped = cli("scan", "--prefix", conda_prefix).stdout
    assert f"  {CONDA[-1]}  2024.10.2.post1  py311_mkl_py_hf3ee4f3_100_cuda12  -" in piped


@pytest.mark.parametrize("columns", WIDTHS)
def test_plan_says_what_is_left_out_and_counts(cli: CommandLine, prefix: Path, columns: int) -> None:
    shown = lines(cli, columns, "-q", "plan", "--profile", "none", "--add-pip", "six", "--prefix", prefix)
    text = " ".join(" ".join(shown).split())
    marks = [
        "1 package will differ from this environment",
        "six",
        "left out (2)",
        "pip: The image is complete",
        "43 packages",
        "compatible 42",
        "imagesync plan --all",
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "package-7" not in text
    assert max(map(len, shown)) <= columns
    assert len(shown) < 30


@pytest.mark.parametrize("columns", WIDTHS)
def test_whole_plan_has_one_line_per_package(cli: CommandLine, prefix: Path, columns: int) -> None:
    shown = lines(cli, columns, "-q", "plan", "--all", "--profile", "none", "--prefix", prefix)
    assert sum("package-" in line for line in shown) == 40
    assert sum("release series" in line for line in shown) == 1
    assert max(map(len, shown)) <= columns
    assert len(shown) < 65


def test_piped_plan_lists_every_package_with_its_reason(cli: CommandLine, prefix: Path) -> None:
    piped = cli("plan", "--profile", "none", "--prefix", prefix).stdout
    assert piped.count("Later fixes of the same release series will do.") == 41
    assert cli("plan", "--all", "--profile", "none", "--prefix", prefix).stdout == piped


@pytest.mark.parametrize("columns", WIDTHS)
def test_diff_shows_differences_and_counts_the_rest(
    cli: CommandLine, prefix: Path, tmp_path: Path, columns: int
) -> None:
    other = tmp_path / "other"
    (other / "pyvenv.cfg").parent.mkdir()
    (other / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    for name in NAMES[:39]:
        write_distribution(other / "lib" / "python3.11" / "site-packages", name, "1.2.4")
    arguments = ("-q", "diff", "--profile", "none", prefix, other)
    shown = lines(cli, columns, *arguments)
    assert sum("package-" in line for line in shown) == 40
    assert max(map(len, shown)) <= columns
    same = lines(cli, columns, "-q", "diff", "--profile", "none", prefix, prefix)
    assert not any("package-" in line for line in same)
    assert "44 packages: 44 same" in same
    assert cli("diff", "--profile", "none", prefix, prefix).stdout.count("package-") == 40


LOCK = """
from imagesync.core.platforms import LINUX_AMD64
from imagesync.cli.lock import print_lock
from imagesync.core.names import Level
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedConda, LockedPackage

def conda(name, channel="conda-forge"):
    version, build = "2024.10.2.post1", "py311_mkl_py_hf3ee4f3_100_cuda12"
    artifact = Artifact(f"{name}-{version}-{build}.conda", "https://e/n", "sha256:00", 18_300_000)
    return LockedConda(name, version, build, f"https://conda.anaconda.org/{channel}", "linux-64", artifact)

print_lock(Lock(
    Target(LINUX_AMD64, "3.11.2", (2, 36)),
    conda=tuple(conda(f"lib{number}") for number in range(40)) + (conda("nvcc", "nvidia"),),
    packages=tuple(
        LockedPackage(f"package-{number}", "1.2.3", Artifact(
            f"package_{number}-1.2.3-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "https://e/n", "sha256:00", 18_300_000))
        for number in range(40)),
    deviations=(Deviation("numpy", "1.26.5", "1.26.4", Level.COMPATIBLE,
                          "1.26.5 has no file for the target and the index has nothing nearer than END"),),
))
"""


@pytest.mark.parametrize("columns", WIDTHS)
def test_lock_has_one_line_per_package_with_build_and_channel(columns: int) -> None:
    exit_code, out = on_terminal(LOCK, columns=columns)
    assert exit_code == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()
    assert sum(bool(re.match(r"  (lib\d|nvcc)", line)) for line in shown) == 41
    assert sum(line.startswith("  package-") for line in shown) == 40
    assert len(shown) < 105
    text = " ".join(" ".join(shown).split())
    assert "py311_mkl_py" in text
    assert "nothing nearer than END" in text
    assert columns == 60 or "nvidia" in text
    assert max(len(line) for line in shown if "sha256:" not in line) <= columns


CLUSTERS = """
from imagesync.cli.cluster import print_clusters
from imagesync.cluster.cleanup import FoundCluster
image = "registry.example.com/a-team/with/a/long/name/of/an/image:" + "0" * 32
print_clusters([FoundCluster(f"imagesync-{n:08}", image, None, "127.0.0.1:8786", "", 4) for n in range(3)])
"""


@pytest.mark.parametrize("columns", WIDTHS)
def test_clusters_have_one_line_each(columns: int) -> None:
    exit_code, out = on_terminal(CLUSTERS, columns=columns)
    assert exit_code == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()
    assert sum("imagesync-0000000" in line for line in shown) == 3
    assert max(len(line) for line in shown if "image: " not in line) <= columns
    assert len(shown) == 5
