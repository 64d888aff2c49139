"""Small packages that stand for large or rare ones: with true records and metadata, and a line of code."""

from __future__ import annotations

import io
import struct
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.channels.archive import PLACEHOLDER, CondaPackage, File
from tests.channels.wheels import as_conda_leaves
from tests.indexes.wheels import make_wheel

# e_ident, e_type and e_machine of ELF; magic number and CPU type of Mach-O.
_HEADS = {
    "linux-aarch64": b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, 183),
    "osx-arm64": struct.pack("<II", 0xFEEDFACF, 0x0100000C),
}
SITE_PACKAGES = {"win-64": "Lib/site-packages"}


def site_packages(subdir: str, minor: str) -> str:
    """Return where a package for one platform has its distributions."""
    return SITE_PACKAGES.get(subdir, f"lib/python{minor}/site-packages")


def distribution(
    name: str,
    version: str,
    *,
    folder: str = "site-packages",
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    modules: Mapping[str, str] | None = None,
    built_path: bool = True,
) -> dict[str, File]:
    """Return the files of one small distribution in a package.

    Parameters
    ----------
    folder
        Where they go: ``site-packages`` of a noarch package.
    tag
        Of its wheel.
    requires
        ``Requires-Dist`` lines.
    modules
        File name to text; by default one module that has the version.
    built_path
        Whether ``direct_url.json`` names the build machine's folder.
    """
    content = {path: text.encode() for path, text in modules.items()} if modules is not None else None
    _, data = make_wheel(name, version, requires=requires, tag=tag, files=content)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {path: File(archive.read(path)) for path in archive.namelist()}
    metadata = f"{name.replace('-', '_')}-{version}.dist-info"
    left = as_conda_leaves(files, metadata, built_path=built_path)
    return {f"{folder}/{path}": file for path, file in left.items()}


def pure(
    name: str, version: str, *, requires: Sequence[str] = (), dist: str = "", **options: Any
) -> CondaPackage:
    """Return a noarch Python package of one small distribution.

    Parameters
    ----------
    requires
        ``Requires-Dist`` lines of the distribution.
    dist
        The distribution's name, where it isn't the package's.
    options
        Of :class:`CondaPackage`, such as ``depends``, ``build``, ``entry_points``, ``archive``.
    """
    files = {**distribution(dist or name, version, requires=requires), **options.pop("files", {})}
    depends = ("python >=3.9", *options.pop("depends", ()))
    return CondaPackage(
        name,
        version,
        options.pop("build", "pyhd8ed1ab_0"),
        noarch="python",
        depends=depends,
        files=files,
        **options,
    )


def platform_pure(
    name: str,
    version: str,
    subdir: str,
    minor: str,
    *,
    depends: Sequence[str] = (),
    tag: str = "",
    dist: str = "",
) -> CondaPackage:
    """Return a package for one platform and one Python that holds one small distribution."""
    tags = {
        "linux-64": "manylinux_2_17_x86_64",
        "linux-aarch64": "manylinux_2_17_aarch64",
        "osx-arm64": "macosx_11_0_arm64",
        "win-64": "win_amd64",
    }
    digits = minor.replace(".", "")
    files = distribution(
        dist or name,
        version,
        folder=site_packages(subdir, minor),
        tag=tag or f"cp{digits}-cp{digits}-{tags[subdir]}",
    )
    python = (f"python >={minor},<3.{int(minor.split('.')[1]) + 1}.0a0", f"python_abi {minor}.* *_cp{digits}")
    return CondaPackage(
        name, version, f"py{digits}h1234567_0", subdir, depends=(*python, *depends), files=files
    )


def generic(name: str, version: str, *, subdir: str = "noarch", **options: Any) -> CondaPackage:
    """Return a package without Python; by default one of data, or of nothing, for every platform."""
    kind = "generic" if subdir == "noarch" else ""
    build = options.pop("build", "h5eee18b_0" if subdir != "noarch" else "0")
    return CondaPackage(name, version, build, subdir, noarch=kind, **options)  # type: ignore[arg-type]


def foreign_python(subdir: str, version: str) -> CondaPackage:
    """Return a Python of another platform: the head of an executable, and a piece of library."""
    minor = version.rpartition(".")[0]
    if subdir == "win-64":
        executable, header, library = "python.exe", "include/patchlevel.h", "Lib"
        # MZ, the offset of the PE header at 60, then PE and the machine (PE Format).
        head = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", 0x8664) + bytes(200)
    else:
        executable = f"bin/python{minor}"
        header, library = f"include/python{minor}/patchlevel.h", f"lib/python{minor}"
        head = _HEADS[subdir] + bytes(200)
    files = {
        executable: File(head, executable=True),
        header: File(f'#define PY_VERSION "{version}"\n'.encode()),
        f"{library}/os.py": File(b"# the standard library\n"),
    }
    if subdir != "win-64":
        files["bin/python"] = File(link=f"python{minor}")
        files["bin/python3"] = File(link=f"python{minor}")
    depends = {
        "linux-aarch64": (),
        "osx-arm64": ("__osx >=11.0", "openssl >=3,<4.0a0", "libffi >=3.4,<4.0a0", "tzdata"),
        "win-64": (
            "openssl >=3,<4.0a0",
            "libffi >=3.4,<4.0a0",
            "vc >=14.2,<15",
            "ucrt >=10.0.20348.0",
            "tzdata",
        ),
    }
    digits = minor.replace(".", "")
    return CondaPackage(
        "python",
        version,
        "h4444444_0_cpython",
        subdir,
        depends=("openssl >=3,<4.0a0", "libffi >=3.4,<4.0a0", "tzdata", *depends[subdir]),
        constrains=(f"python_abi {minor}.* *_cp{digits}",),
        files=files,
        site_packages=site_packages(subdir, minor),
        license="Python-2.0",
    )


def shared_library(name: str, version: str, source: str, work: Path, **options: Any) -> CondaPackage:
    """Return a package for linux-64 with a library compiled from C *source*, which may ask for ``PREFIX``."""
    text, built = work / f"{name}.c", work / f"{name}.so"
    text.write_text(f'#define PREFIX "{PLACEHOLDER}"\n{source}\n')
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", built, text], check=True)
    files = {f"lib/{name}.so.3": File(built, executable=True), f"lib/{name}.so": File(link=f"{name}.so.3")}
    files.update(options.pop("files", {}))
    return CondaPackage(name, version, options.pop("build", "h1234567_0"), "linux-64", files=files, **options)
