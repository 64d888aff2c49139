"""Which images of the right content are taken, and which deviations they have here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from imagesync.image.built_image import Image
from imagesync.pipeline.context import Context
from imagesync.pipeline.engine_finder import EngineFinder
from imagesync.pipeline.environment_hash import BaseInputs
from imagesync.pipeline.environment_inputs import EnvironmentInputs, environment_inputs
from imagesync.pipeline.known_hashes import KnownHash
from imagesync.scan.environment import Environment, Interpreter, Package
from imagesync.settings.model import Settings

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")
TOOLZ = Package(
    canonicalize_name("toolz"), "1.0.0", location="/env/site-packages", tags=("py3-none-any",), purelib=True
)
HASH, ONE, TWO = (f"sha256:{digit * 64}" for digit in "012")
IMAGE = Image("imagesync:0000000000000000", ONE, HASH, TWO, cached=True)


def deviation(local: str, locked: str) -> dict[str, Any]:
    fields = {"level": "compatible", "reason": "the index has no other", "manager": "pip", "requested": None}
    return {"name": "toolz", "local": local, "locked": locked, **fields}


def inputs_of(package: Package, tmp_path: Path, *, strict: bool = False) -> EnvironmentInputs:
    settings = Settings(profile="none", cache_dir=tmp_path / "cache", strict=strict)
    return environment_inputs(Environment(PYTHON, (package,)), Context(settings))


def accepted(
    image: Image,
    tmp_path: Path,
    *,
    known: KnownHash | None = None,
    package: Package = TOOLZ,
    strict: bool = False,
) -> Image | None:
    inputs = inputs_of(package, tmp_path, strict=strict)
    return EngineFinder(inputs.context).accepted(image, inputs, known or KnownHash(HASH))


def test_deviations_are_those_of_the_label_and_of_the_lock_and_strict_takes_none(tmp_path: Path) -> None:
    here, known = deviation("1.0.0", "1.0.1"), KnownHash(HASH, (deviation("1.0.0", "1.0.2"),))
    labelled = replace(IMAGE, deviations=(here,))
    for image, remembered, expected in (
        (IMAGE, KnownHash(HASH), ()),
        (labelled, KnownHash(HASH), (here,)),
        (IMAGE, known, known.deviations),
        (labelled, known, known.deviations),
        (replace(IMAGE, deviations=(deviation("0.9", "1.0.0"),)), KnownHash(HASH), ()),
    ):
        found = accepted(image, tmp_path, known=remembered)
        assert found is not None
        assert found.deviations == expected
        taken = accepted(image, tmp_path, known=remembered, strict=True)
        assert (taken is None) == bool(expected)


def test_image_with_other_artifacts_than_those_of_a_lock_file_is_not_taken(tmp_path: Path) -> None:
    image = replace(IMAGE, artifacts_digest=ONE)
    assert accepted(image, tmp_path, known=KnownHash(HASH, (), ONE)) is not None
    assert accepted(image, tmp_path, known=KnownHash(HASH, (), TWO)) is None
    assert accepted(IMAGE, tmp_path, known=KnownHash(HASH, (), TWO)) is None


@pytest.mark.parametrize(
    ("tags", "compiled", "taken"),
    [
        (("py3-none-any",), ("toolz",), False),
        (("py3-none-any",), ("numpy",), True),
        (("cp311-cp311-manylinux_2_28_x86_64",), ("toolz",), True),
        ((), ("toolz",), True),
    ],
)
def test_image_with_a_compiled_wheel_is_not_taken_where_pure_python_is_installed(
    tmp_path: Path, tags: tuple[str, ...], compiled: tuple[str, ...], taken: bool
) -> None:
    image = replace(IMAGE, compiled=compiled)
    assert (accepted(image, tmp_path, package=replace(TOOLZ, tags=tags)) is not None) is taken


def test_image_is_taken_only_if_the_critical_imports_were_verified_in_it(tmp_path: Path) -> None:
    names = ("cloudpickle", "dask", "distributed", "msgpack", "toolz", "tornado")
    packages = tuple(replace(TOOLZ, name=canonicalize_name(name)) for name in names)
    settings = Settings(profile="dask", cache_dir=tmp_path / "cache")
    inputs = environment_inputs(Environment(PYTHON, packages), Context(settings))
    assert set(inputs.plan.critical_imports) == set(names)
    finder, known = EngineFinder(inputs.context), inputs.known_hash(BaseInputs(ONE, TWO, "3.11.7"))
    assert known is not None
    for verified, taken in (
        ((), False),
        (("toolz",), False),
        (names, True),
        ((*names, "ray"), True),
    ):
        image = replace(IMAGE, verified_imports=verified)
        assert (finder.accepted(image, inputs, known) is not None) is taken


def package_with(module: bytes, name: str, folder: Path) -> Package:
    """Return a package that records and writes *module* as its ``shared.py``."""
    metadata = folder / f"{name}-1.0.0.dist-info"
    metadata.mkdir(parents=True)
    digest = base64.urlsafe_b64encode(hashlib.sha256(module).digest()).decode().rstrip("=")
    (metadata / "RECORD").write_text(f"shared.py,sha256={digest},{len(module)}\n")
    (folder / "shared.py").write_bytes(module)
    return replace(
        TOOLZ,
        name=canonicalize_name(name),
        metadata_path=str(metadata),
        location=str(folder),
        has_record=True,
    )


def test_image_of_a_lock_file_is_taken_only_where_no_file_belongs_to_two_packages(tmp_path: Path) -> None:
    def taken(known: Mapping[str, str] | None, *packages: Package) -> bool:
        context = Context(Settings(profile="none", cache_dir=tmp_path / "cache"))
        inputs = environment_inputs(Environment(PYTHON, packages), context)
        return inputs.accepts(replace(IMAGE, file_conflicts=known))

    folder = tmp_path / "site-packages"
    first, second = package_with(b"one = 1\n", "first", folder), package_with(b"two = 2\n", "second", folder)
    installed, other = (hashlib.sha256(module).hexdigest() for module in (b"two = 2\n", b"one = 1\n"))
    assert taken(None, first)
    assert not taken(None, first, second)
    assert taken({"shared.py": installed}, first, second)
    assert not taken({"shared.py": other}, first, second)


def test_package_that_was_compiled_here_has_another_hash(tmp_path: Path) -> None:
    base = BaseInputs(ONE, TWO, "3.11.7")
    metadata = tmp_path / "toolz-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "RECORD").write_text("toolz.py,sha256=abc,3\n")
    fetched = replace(
        TOOLZ,
        tags=("cp311-cp311-manylinux_2_28_x86_64",),
        metadata_path=str(metadata),
        location=str(tmp_path),
    )
    built = replace(fetched, tags=("cp311-cp311-linux_x86_64",))
    one, other = (inputs_of(package, tmp_path) for package in (fetched, built))
    known, another = one.known_hash(base), other.known_hash(base)
    assert known is not None
    assert another is not None
    assert known.digest != another.digest
    assert one.input_hash(base) != other.input_hash(base)
