from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imagesync.diff.sides import find_sides, read_inventory
from imagesync.errors import UsageError
from imagesync.image_layout import Label
from imagesync.inventory.comparison import Side
from imagesync.inventory.inventory import Entry, Inventory, to_json, to_text
from imagesync.registry.config import ContainerConfig
from imagesync.registry.oci_layout import ImageLayout
from imagesync.session import Session, open_session
from tests.oci_images import small_image


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"inventory": 99}', "name: x", '{"target": {}}', '{"inventory": 1, "packages": [1]}'],
)
def test_file_that_is_neither_lock_nor_inventory_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text(text)
    with pytest.raises(UsageError, match=r"lock\.json isn't a lock"):
        read_inventory(tmp_path / "lock.json")


@pytest.mark.parametrize("where", ["images", "folder"])
def test_image_outside_of_engines_and_registries_is_read(tmp_path: Path, where: str) -> None:
    inventory = Inventory("linux-x86_64", (Entry("lamp", "1.0"),), "sha256:0")
    labels = {Label.INVENTORY: to_text(inventory)}
    name = "imagesync:1" if where == "images" else "one"
    small_image(
        ImageLayout(tmp_path / where), {"a": b""}, name=name, container=ContainerConfig(labels=labels)
    )
    text = name if where == "images" else f"oci:{tmp_path / where}:{name}"
    sides = find_sides(text, text, session=open_session(quiet=True, cache_dir=tmp_path))
    assert sides[0] == Side(text, {text: inventory})


def test_side_that_cannot_be_read_is_wrong_usage(tmp_path: Path) -> None:
    # A file that even root can't read.
    side = Path("/proc/self/mem")
    if not side.exists():
        pytest.skip("there is no /proc")
    with pytest.raises(UsageError, match="can't be read"):
        find_sides(str(side), str(side), session=open_session(quiet=True, cache_dir=tmp_path))


def test_lock_file_of_pipenv_is_refused_with_its_export(tmp_path: Path) -> None:
    path = tmp_path / "Pipfile.lock"
    path.write_text('{"_meta": {}}')
    with pytest.raises(UsageError) as caught:
        find_sides(str(path), str(path), session=open_session(quiet=True, cache_dir=tmp_path))
    assert "pipenv requirements" in caught.value.hint


@pytest.fixture
def unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Return a session of a local environment that can't be scanned, without an engine."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    return open_session(
        python=tmp_path / "nowhere" / "python",
        quiet=True,
        cache_dir=tmp_path / "cache",
        base="ubuntu:24.04",
        target_python="3.12.3",
        target_glibc="2.39",
    )


def test_lock_file_is_compared_with_the_folder_and_not_with_the_local_environment(
    unread: Session, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    minor = "{}.{}".format(*sys.version_info)
    lines = [
        f'lamp=={version} ; python_version {operator} "{minor}" --hash=sha256:{"0" * 64}\n'
        for version, operator in (("1.0", "=="), ("2.0", "!="))
    ]
    (tmp_path / "requirements.txt").write_text("".join(lines))
    folder, lock = find_sides(str(tmp_path / "env"), str(tmp_path / "requirements.txt"), session=unread)
    assert versions(lock) == {**versions(folder), "lamp": "1.0"}


def test_lock_file_is_read_for_the_python_of_the_other_side(unread: Session, tmp_path: Path) -> None:
    image = Inventory("linux-x86_64", (Entry("python", "3.10.4", kind="python"), Entry("lamp", "1.0")))
    (tmp_path / "image.json").write_text(to_json(image))
    (tmp_path / "requirements.txt").write_text(
        f'lamp==1.0 ; python_version == "3.10" --hash=sha256:{"0" * 64}\n'
        f'shade==1.0 ; python_version != "3.10" --hash=sha256:{"0" * 64}\n'
    )
    lock, other = find_sides(str(tmp_path / "requirements.txt"), str(tmp_path / "image.json"), session=unread)
    assert versions(lock) == versions(other) == {"python": "3.10.4", "lamp": "1.0"}


def test_two_lock_files_are_read_for_the_python_of_the_base_image(unread: Session, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text(f"lamp==1.0 --hash=sha256:{'0' * 64}\n")
    (tmp_path / "new.txt").write_text(f"lamp==2.0 --hash=sha256:{'0' * 64}\n")
    old, new = find_sides(str(tmp_path / "old.txt"), str(tmp_path / "new.txt"), session=unread)
    assert versions(old) == {"python": "3.12.3", "lamp": "1.0"}
    assert versions(new)["lamp"] == "2.0"


def versions(side: Side) -> dict[str, str]:
    (inventory,) = side.members.values()
    return {entry.name: entry.version for entry in inventory.entries}
