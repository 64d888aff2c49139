"""Metadata of vendored packages for resolvers: nothing in it makes them fetch a URL."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from imagesync.core.names import Level, canonical_name
from imagesync.lock.resolvers.resolver import write_metadata_wheels
from imagesync.plan.plan import PlannedPackage
from imagesync.scan.environment import Package

URL = "http://127.0.0.1:9/evil-1.0.tar.gz"


def metadata(requires: tuple[str, ...], folder: Path) -> list[str]:
    name = canonical_name("mine")
    installed = Package(name, "1.0", requires=requires)
    write_metadata_wheels(
        [PlannedPackage(name, "1.0", Level.EXACT, "==1.0", "", installed=installed)], folder
    )
    with zipfile.ZipFile(folder / "mine-1.0-py3-none-any.whl") as archive:
        return archive.read("mine-1.0.dist-info/METADATA").decode().split("\n")


@pytest.mark.parametrize(
    "ending",
    [
        "",
        " # c",
        r" ; os_name != '\x'",
        r" ; os_name != '\N{x}'",
        " ;python_version>='3',",
        " and more",
        " ; " + "(" * 300 + "os_name == 'x'" + ")" * 300,
        "\n ; os_name == 'x'",
        "#sha256=0",
        " ; os_name == \"'\" or os_name == '\"'",
    ],
)
@pytest.mark.parametrize("middle", [" @ ", "@", "\u00a0@\u00a0", "[x]@", "\t@\n "])
def test_metadata_for_resolvers_has_no_url(middle: str, ending: str, tmp_path: Path) -> None:
    lines = metadata((f"evil{middle}{URL}{ending}", "other>=1"), tmp_path)
    assert "Requires-Dist: other>=1" in lines
    assert not any("@" in line or "//" in line for line in lines)


@pytest.mark.parametrize(
    "line",
    [
        "evil @ http://127.0.0.1:9/${HOME}/evil-1.0-py3-none-any.whl # c",
        "evil @ http://127.0.0.1:9/${HOME}/evil-1.0-py3-none-any.whl",
        "evil; os_name == '$HOME'",
        rf"x; os_name == '\nRequires-Dist: evil @ {URL}'",
        rf"x; extra == '\nRequires-Dist: evil @ {URL}'",
        f"x; extra == 'a\nRequires-Dist: evil @ {URL}\n'",
        rf"x; os_name == 'a\rRequires-Dist: evil @ {URL}'",
        f"git+{URL}",
        URL,
        "./evil-1.0.tar.gz",
        "--find-links=x",
    ],
)
def test_requirements_that_no_specification_allows_are_left_out(line: str, tmp_path: Path) -> None:
    lines = metadata((line, "other>=1"), tmp_path)
    fields = [each.partition(":")[0] for each in lines if each]
    assert "Requires-Dist: other>=1" in lines
    assert not any("$" in each or each.startswith("Requires-Dist: evil") for each in lines)
    assert set(fields) <= {"Metadata-Version", "Name", "Version", "Requires-Dist", "Provides-Extra"}
    assert fields.count("Requires-Dist") <= 2
