from __future__ import annotations

import io

from packaging.utils import canonicalize_name

from imagesync.cli.scan import print_environment
from imagesync.scan.environment import (
    CondaRecord,
    Environment,
    Finding,
    Interpreter,
    Package,
    Severity,
    Source,
)

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")
FORGE = "https://conda.anaconda.org/conda-forge"
NUMPY = canonicalize_name("numpy")
MINE = canonicalize_name("mine")
LEFTOVER = Finding(
    Severity.WARNING,
    "interrupted-uninstall",
    "an uninstall left this behind",
    "/env/~ame",
    hint="rm -r '/env/~ame'",
)


def shown(environment: Environment) -> str:
    stream = io.StringIO()
    print_environment(environment, stream)
    return stream.getvalue()


def conda_record(name: str, distribution: str = "", channel: str = FORGE) -> CondaRecord:
    names = (canonicalize_name(distribution),) if distribution else ()
    filename = f"{name}-1.0-0.conda"
    return CondaRecord(
        name, "1.0", "0", 0, channel, "noarch", filename, "", requested_spec="dask>=1", distributions=names
    )


def test_conda_packages_are_listed_above_those_from_pip() -> None:
    records = (conda_record("dask"), conda_record("dask-core", "dask"), conda_record("six", "six"))
    packages = (Package(canonicalize_name("dask"), "1.0", "conda", conda="dask-core"), Package(MINE, "0.1"))
    text = shown(Environment(PYTHON, packages, conda=records, channels=(FORGE,)))
    assert text == (
        "cpython 3.11.7 (linux-x86_64) in /env\n"
        "  conda package  version  build  requested  channel      distributions\n"
        "  dask           1.0      0      dask>=1    conda-forge\n"
        "  dask-core      1.0      0      dask>=1    conda-forge  dask\n"
        "  six            1.0      0      dask>=1    conda-forge\n"
        "\n"
        "from pip\n"
        "  package  version  manager  requested  source\n"
        "  mine     0.1      pip      -          index\n"
        f"channels: {FORGE}\n"
        "3 conda packages, 1 from pip\n"
    )


def test_conda_environment_without_pip_packages_has_no_pip_section() -> None:
    other = "https://mirror.example.com/conda-forge"
    records = (conda_record("dask"), conda_record("six", channel=other))
    text = shown(Environment(PYTHON, (), conda=records, channels=(FORGE, other)))
    assert "\nfrom pip\n" not in text
    assert f"  dask           1.0      0      dask>=1    {FORGE}" in text
    assert text.endswith(f"channels: {FORGE} {other}\n2 conda packages, 0 from pip\n")


def test_piped_environment_is_aligned_text_with_its_findings() -> None:
    editable = Source("directory", url="file:///home/me/mine", editable=True)
    text = shown(
        Environment(
            PYTHON,
            (Package(MINE, "0.1", source=editable), Package(NUMPY, "1.26.4", requested=True)),
            (LEFTOVER,),
        ),
    )
    assert text == (
        "cpython 3.11.7 (linux-x86_64) in /env\n"
        "  package  version  manager  requested  source\n"
        "  mine     0.1      pip      -          editable directory file:///home/me/mine\n"
        "  numpy    1.26.4   pip      yes        index\n"
        "2 packages, 1 from a directory\n"
        "\n"
        "1 finding\n"
        "  warning  interrupted-uninstall  an uninstall left this behind (/env/~ame) -> rm -r '/env/~ame'\n"
    )


def test_empty_environment_has_a_title_and_a_count() -> None:
    assert shown(Environment(PYTHON, ())).splitlines() == [
        "cpython 3.11.7 (linux-x86_64) in /env",
        "0 packages",
    ]
