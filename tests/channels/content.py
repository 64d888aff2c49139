"""What the test channel holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.channels.archive import PLACEHOLDER, CondaPackage, File
from tests.channels.doubles import (
    distribution,
    foreign_python,
    generic,
    platform_pure,
    pure,
    shared_library,
    site_packages,
)
from tests.channels.interpreter import Interpreter
from tests.channels.wheels import Installed, script, take_apart

_NUMPY = "2.2.6" if sys.version_info < (3, 11) else "2.3.5"
WHEELS = (
    f"numpy=={_NUMPY}",
    "click==8.3.0",
    "cloudpickle==3.1.1",
    "dask==2025.9.1",
    "distributed==2025.9.1",
    "fsspec==2025.9.0",
    "importlib-metadata==8.7.0",
    "jinja2==3.1.6",
    "locket==1.0.0",
    "markupsafe==3.0.3",
    "msgpack==1.1.2",
    "packaging==25.0",
    "pandas==2.3.3",
    "partd==1.4.2",
    "pip==25.2",
    "psutil==7.1.0",
    "python-dateutil==2.9.0.post0",
    "pytz==2025.2",
    "pyyaml==6.0.3",
    "setuptools==80.9.0",
    "six==1.17.0",
    "sortedcontainers==2.4.0",
    "tblib==3.1.0",
    "toolz==1.1.0",
    "tornado==6.5.2",
    "tzdata==2025.2",
    "urllib3==2.5.0",
    "wheel==0.45.1",
    "zict==3.0.0",
    "zipp==3.23.0",
)
# Distribution to the names of its package, where they differ in conda-forge, too.
NAMES = {
    "dask": "dask-core",
    "msgpack": "msgpack-python",
    "tzdata": "python-tzdata",
}
DEPENDS = {
    "dask-core": (
        "click >=8.1",
        "cloudpickle >=3.0.0",
        "fsspec >=2021.9.0",
        "importlib-metadata >=4.13.0",
        "packaging >=20.0",
        "partd >=1.4.0",
        "pyyaml >=5.3.1",
        "toolz >=0.10.0",
    ),
    "distributed": (
        "click >=8.0",
        "cloudpickle >=3.0.0",
        "dask-core >=2025.9.1,<2025.9.2.0a0",
        "jinja2 >=2.10.3",
        "locket >=1.0.0",
        "msgpack-python >=1.0.2",
        "packaging >=20.0",
        "psutil >=5.8.0",
        "pyyaml >=5.4.1",
        "sortedcontainers >=2.0.5",
        "tblib >=1.6.0",
        "toolz >=0.12.0",
        "tornado >=6.2.0",
        "urllib3 >=1.26.5",
        "zict >=3.0.0",
    ),
    "importlib-metadata": ("zipp >=3.20",),
    "jinja2": ("markupsafe >=2.0",),
    "numpy": ("libblas >=3.9.0,<4.0a0",),
    "pandas": ("numpy >=1.22.4", "python-dateutil >=2.8.2", "python-tzdata >=2022.7", "pytz >=2020.1"),
    "partd": ("locket", "toolz"),
    "pip": ("setuptools", "wheel"),
    "python-dateutil": ("six >=1.5",),
}
_FOREIGN = ("numpy", "pandas", "tornado", "pyyaml", "psutil", "markupsafe", "msgpack-python")


def packages(work: Path) -> Iterator[CondaPackage]:
    """Yield all packages of the channel; files that are made for them are below *work*."""
    for folder in ("elf", "c", "target"):
        (work / folder).mkdir(parents=True)
    interpreter = Interpreter(work / "elf")
    minor = interpreter.minor
    native = list(interpreter.packages())
    yield from native
    yield from _arm64(native)
    wheels = list(take_apart(WHEELS, work / "target", sys.executable))
    for wheel in wheels:
        yield from _from_wheel(wheel, minor)
    yield from _dask()
    yield from _base(minor)
    yield from _native(work / "c")
    for subdir in ("linux-aarch64", "osx-arm64", "win-64"):
        yield from _foreign(subdir, interpreter, {NAMES.get(w.name, w.name): w.version for w in wheels})
    yield from _drifting(minor)
    yield from _odd(minor)


def _arm64(native: list[CondaPackage]) -> Iterator[CondaPackage]:
    """Yield Python and its libraries for linux-aarch64, in the versions of linux-64: to be read alone."""
    for package in native:
        if package.name == "python":
            double = foreign_python("linux-aarch64", package.version)
            yield replace(double, depends=package.depends)
        else:
            yield generic(package.name, package.version, subdir="linux-aarch64", depends=package.depends)


def _from_wheel(wheel: Installed, minor: str) -> Iterator[CondaPackage]:
    name = NAMES.get(wheel.name, wheel.name)
    depends = DEPENDS.get(name, ())
    if not wheel.pure:
        digits = minor.replace(".", "")
        folder = site_packages("linux-64", minor)
        files = {f"{folder}/{path}": _executable(path, file) for path, file in wheel.files.items()}
        files.update({f"bin/{point.split(' ')[0]}": script(point) for point in wheel.entry_points})
        python = (
            f"python >={minor},<3.{int(minor.split('.')[1]) + 1}.0a0",
            f"python_abi {minor}.* *_cp{digits}",
        )
        yield CondaPackage(
            name,
            wheel.version,
            f"py{digits}h41a922d_0",
            "linux-64",
            depends=(*python, "__glibc >=2.17,<3.0.a0", *depends),
            files=files,
        )
        return
    package = CondaPackage(
        name,
        wheel.version,
        "pyhd8ed1ab_0",
        noarch="python",
        depends=("python >=3.9", *depends),
        files={f"site-packages/{path}": file for path, file in wheel.files.items()},
        entry_points=wheel.entry_points,
        archive="tar.bz2" if name == "locket" else "conda",
    )
    if name == "click":  # as in conda-forge: one build where there is a Unix, another one for Windows
        yield replace(package, build="pyh707e725_0", depends=(*package.depends, "__unix"))
        yield replace(package, build="pyha7b4d00_0", depends=(*package.depends, "__win", "colorama"))
        return
    yield package


def _executable(path: str, file: File) -> File:
    return File(file.content, executable=path.endswith(".so") or ".so." in path)


def _dask() -> Iterator[CondaPackage]:
    """Yield the metapackage, and two older releases that can't be had together."""
    yield generic(
        "dask",
        "2025.9.1",
        build="pyhcf101f3_0",
        depends=(
            "dask-core >=2025.9.1,<2025.9.2.0a0",
            "distributed >=2025.9.1,<2025.9.2.0a0",
            "numpy >=1.24",
            "pandas >=2.0",
        ),
    )
    for version in ("2022.1.0", "2022.5.1"):
        same = f">={version},<{_after(version)}.0a0"
        yield pure("dask-core", version, dist="dask", depends=("cloudpickle >=1.1.1", "toolz >=0.8.2"))
        yield pure(
            "distributed",
            version,
            requires=[f"dask=={version}"],
            depends=(f"dask-core {same}", "tornado >=6.0.3", "cloudpickle >=1.5.0", "msgpack-python >=0.6.0"),
        )
        yield generic(
            "dask", version, build="pyhd8ed1ab_0", depends=(f"dask-core {same}", f"distributed {same}")
        )


def _after(version: str) -> str:
    head, _, last = version.rpartition(".")
    return f"{head}.{int(last) + 1}"


def _base(minor: str) -> Iterator[CondaPackage]:
    """Yield what stands below the packages that a user asks for."""
    import certifi

    digits = minor.replace(".", "")
    yield generic("python_abi", minor, build=f"8_cp{digits}", constrains=(f"python {minor}.*",))
    yield generic("ca-certificates", "2025.8.3", files={"ssl/cacert.pem": File(Path(certifi.where()))})
    yield generic("tzdata", "2025b", files={"share/zoneinfo/leapseconds": File(b"# of the time zones\n")})
    yield pure("colorama", "0.4.6")


def _native(work: Path) -> Iterator[CondaPackage]:
    yield shared_library(
        "libblas", "3.9.0", "int imagesync_add(int a, int b) { return a + b; }", work, license="BSD-3-Clause"
    )
    yield shared_library(
        "libbeacon",
        "1.2.0",
        "const char *beacon_prefix(void) { return PREFIX; }",
        work,
        files={"share/beacon/beacon.conf": File(b"home = " + PLACEHOLDER.encode() + b"/share/beacon\n")},
    )


def _foreign(subdir: str, interpreter: Interpreter, versions: dict[str, str]) -> Iterator[CondaPackage]:
    """Yield what a machine of another platform has: to be read, not to be run."""
    minor = interpreter.minor
    others = [("libblas", "3.9.0")]
    if subdir != "linux-aarch64":
        yield foreign_python(subdir, interpreter.version)
        others += [("openssl", "3.0.14"), ("libffi", "3.4.4")]
        if not interpreter.version.endswith(".0"):  # a patch level that no Linux has
            patch = int(interpreter.version.rpartition(".")[2]) - 1
            yield foreign_python(subdir, f"{minor}.{patch}")
    for name, version in others:
        yield generic(name, version, subdir=subdir, files={f"share/{name}/version": File(version.encode())})
    below = {
        "linux-aarch64": ("__glibc >=2.17,<3.0.a0",),
        "osx-arm64": ("__osx >=11.0", "libcxx >=19"),
        "win-64": ("vc >=14.2,<15", "ucrt >=10.0.20348.0"),
    }[subdir]
    for name in _FOREIGN:
        dist = "msgpack" if name == "msgpack-python" else name
        depends = (*DEPENDS.get(name, ()), *below)
        yield platform_pure(name, versions[name], subdir, minor, dist=dist, depends=depends)
    if subdir == "linux-aarch64":
        return
    if subdir == "osx-arm64":
        yield generic("libcxx", "19.1.7", subdir=subdir, depends=("__osx >=11.0",))
        yield platform_pure("appnope", "0.1.4", subdir, minor, tag="py3-none-any")
        return
    yield generic("ucrt", "10.0.22621.0", subdir=subdir)
    yield generic("vs2015_runtime", "14.40.33810", subdir=subdir, depends=("ucrt >=10.0.20348.0",))
    yield generic("vc", "14.3", subdir=subdir, depends=("vs2015_runtime >=14.40.33810",))
    yield platform_pure("pywin32", "311", subdir, minor, depends=("vc >=14.2,<15",))


def _drifting(minor: str) -> Iterator[CondaPackage]:
    """Yield packages whose versions differ from platform to platform.

    - ``trellis`` 1.4.2 isn't there for Linux, and ``~=1.4.2`` has neighbours; linux-aarch64 has others again.
    - ``lattice`` 3.1.0 isn't there for Linux, and nothing near it; linux-aarch64 has none at all.
    - ``gazebo`` 1.0.0 has another dependency on Linux.
    - ``prism`` 1.0.0 has builds with and without MPI, and for Windows one for CUDA that Linux lacks.
    """
    everywhere = {"linux-64": ("1.4.0", "1.4.1", "1.4.5", "1.5.0", "2.0.0")}
    for subdir in ("osx-arm64", "win-64"):
        everywhere[subdir] = ("1.4.0", "1.4.2", "2.0.0")
    everywhere["linux-aarch64"] = ("1.4.3", "1.5.0")
    for subdir, versions in everywhere.items():
        for version in versions:
            yield platform_pure("trellis", version, subdir, minor)
        if subdir == "linux-aarch64":
            continue
        yield platform_pure("lattice", "2.9.0" if subdir == "linux-64" else "3.1.0", subdir, minor)
        yield platform_pure(
            "gazebo", "1.0.0", subdir, minor, depends=("arbor >=1",) if subdir == "linux-64" else ()
        )
    builds = [("nompi", 101), ("mpi_openmpi", 1), ("mpi_mpich", 1)]
    for subdir, letter in (("linux-64", "a"), ("osx-arm64", "b")):
        for variant, number in builds:
            prism = platform_pure("prism", "1.0.0", subdir, minor)
            build = f"{variant}_py{minor.replace('.', '')}h{letter * 7}_{number}"
            yield replace(prism, build=build, build_number=number)
    yield replace(platform_pure("prism", "1.0.0", "win-64", minor), build="cuda120_h1234567_3")
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        yield pure("arbor", version)
    yield pure("toolz", "1.0.0")
    yield pure("toolz", "0.12.1")
    yield pure("cloudpickle", "3.0.0")


def _odd(minor: str) -> Iterator[CondaPackage]:
    """Yield one package for each thing that conda packages can do besides holding files.

    - ``compass`` sets variables when it is activated, by scripts and by a file of variables.
    - ``anvil`` has a script that runs once it is linked.
    - ``greeter`` has an entry point, and ``greeter-native`` a script with the prefix in its first line.
    - ``quill`` is in the older archive format.
    - ``orchard-suite`` holds two distributions.
    - ``aurora`` has a build for CUDA and one without.
    """
    activate = 'export COMPASS_HOME="${CONDA_PREFIX}/share/compass"\n'
    yield generic(
        "compass",
        "1.0.0",
        subdir="linux-64",
        files={
            "etc/conda/activate.d/compass_activate.sh": File(activate.encode()),
            "etc/conda/deactivate.d/compass_deactivate.sh": File(b"unset COMPASS_HOME\n"),
            "etc/conda/env_vars.d/compass.json": File(b'{"COMPASS_MODE": "north"}'),
            "share/compass/points": File(b"north\neast\nsouth\nwest\n"),
        },
    )
    link = '#!/bin/sh\nmkdir -p "$PREFIX/share/anvil"\necho "$PREFIX" >"$PREFIX/share/anvil/linked"\n'
    yield generic(
        "anvil", "1.0.0", subdir="linux-64", files={"bin/.anvil-post-link.sh": File(link.encode(), True)}
    )
    hello = {"greeter.py": "def main():\n    print('hello from greeter')\n"}
    yield replace(
        pure("greeter", "1.0.0", entry_points=("greet = greeter:main",)),
        files=distribution("greeter", "1.0.0", modules=hello),
    )
    native = platform_pure("greeter-native", "1.0.0", "linux-64", minor, depends=("greeter",))
    yield replace(native, files={**native.files, "bin/greet-native": script("greet-native = greeter:main")})
    yield pure("quill", "1.0.0", archive="tar.bz2")
    suite = {**distribution("orchard-core", "2.1.0"), **distribution("orchard-tools", "2.1.0")}
    yield replace(pure("orchard-suite", "2.1.0"), files=suite)
    yield replace(platform_pure("aurora", "1.0.0", "linux-64", minor), build="cpu_0")
    cuda = platform_pure("aurora", "1.0.0", "linux-64", minor, depends=("__cuda >=12.0",))
    yield replace(cuda, build="cuda_1", build_number=1)
