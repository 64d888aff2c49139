"""Small real wheels and sdists, made without a build backend."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence


def _metadata(name: str, version: str, requires: Sequence[str], requires_python: str | None) -> bytes:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    extras = {
        part.split("==")[1].strip(" '\"")
        for line in requires
        for part in line.split(";")[1:]
        if "extra ==" in part
    }
    lines += [f"Provides-Extra: {extra}" for extra in sorted(extras)]
    if requires_python is not None:
        lines.append(f"Requires-Python: {requires_python}")
    return ("\n".join(lines) + "\n\n").encode()


def make_wheel(
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    requires_python: str | None = None,
    files: Mapping[str, bytes] | None = None,
) -> tuple[str, bytes]:
    """Return the file name and the bytes of an installable wheel.

    ``files`` maps paths in the wheel to contents; without it there is one module that has the version.
    The same arguments give the same bytes.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    content = (
        dict(files)
        if files is not None
        else {f"{name.replace('-', '_')}.py": f"__version__ = {version!r}\n".encode()}
    )
    pure = "true" if tag.endswith("-none-any") else "false"
    content[f"{stem}.dist-info/METADATA"] = _metadata(name, version, requires, requires_python)
    content[f"{stem}.dist-info/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: imagesync-tests\nRoot-Is-Purelib: {pure}\nTag: {tag}\n".encode()
    )
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for path, data in content.items()
    )
    content[f"{stem}.dist-info/RECORD"] = (record + f"{stem}.dist-info/RECORD,,\n").encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data)
    return f"{stem}-{tag}.whl", stream.getvalue()


def make_sdist(
    name: str, version: str, *, requires: Sequence[str] = (), requires_python: str | None = None
) -> tuple[str, bytes]:
    """Return the file name and the bytes of an sdist that setuptools can build."""
    stem = f"{name.replace('-', '_')}-{version}"
    module = name.replace("-", "_")
    python = f"requires-python = {requires_python!r}\n" if requires_python else ""
    pyproject = (
        '[build-system]\nrequires = ["setuptools>=61"]\nbuild-backend = "setuptools.build_meta"\n'
        f"[project]\nname = {name!r}\nversion = {version!r}\ndependencies = {list(requires)!r}\n{python}"
        f"[tool.setuptools]\npy-modules = [{module!r}]\n"
    )
    members = {
        "PKG-INFO": _metadata(name, version, requires, requires_python),
        "pyproject.toml": pyproject.encode(),
        f"{module}.py": f"__version__ = {version!r}\n".encode(),
    }
    stream = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for path, data in members.items():
            info = tarfile.TarInfo(f"{stem}/{path}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return f"{stem}.tar.gz", stream.getvalue()
