"""The environment of the base image's own Python, as ``python3 -m venv --without-pip`` makes it.

Source: the module venv of CPython 3.10 to 3.14.
"""

from __future__ import annotations

import posixpath
import shlex
from typing import TYPE_CHECKING, Final

from imagesync.errors import BaseImageError
from imagesync.image.layers.entries import Entry, directory_entry, file_entry, symlink_entry, with_parents
from imagesync.image_layout import PREFIX

if TYPE_CHECKING:
    from imagesync.image.layers.base_contents import BaseContents

_IGNORE: Final = b"# Created by venv; see https://docs.python.org/3/library/venv.html\n*\n"
# The first versions that write the command into pyvenv.cfg, have a folder of headers, and write .gitignore.
_WITH_COMMAND, _WITH_HEADERS, _WITH_IGNORE = (3, 11), (3, 11), (3, 13)


def environment_entries(base: BaseContents, *, prefix: str = str(PREFIX)) -> list[Entry]:
    """Return the entries of an empty virtual environment at *prefix*.

    Raises
    ------
    BaseImageError
        The base's Python lacks the module venv.
    """
    version = tuple(int(number) for number in base.python_version.split(".")[:2])
    minor = ".".join(map(str, version))
    if "__init__.py" not in base.venv:
        raise BaseImageError(
            f"The Python of the base image, {base.python_executable}, has no module venv.",
            hint=f"Name an image with it: --base python:{minor}-slim, or a Debian one with python3-venv.",
        )
    root = prefix.lstrip("/")
    name = posixpath.basename(base.python_executable)
    entries = [
        directory_entry(f"{root}/include/python{minor}" if version >= _WITH_HEADERS else f"{root}/include"),
        directory_entry(f"{root}/lib/python{minor}/site-packages"),
        symlink_entry(f"{root}/lib64", "lib"),
        file_entry(f"{root}/pyvenv.cfg", _configuration(base, version, prefix)),
        symlink_entry(f"{root}/bin/{name}", base.python_executable),
        *(
            symlink_entry(f"{root}/bin/{other}", name)
            for other in ("python", "python3", f"python{minor}")
            if other != name
        ),
        *(
            file_entry(f"{root}/bin/{posixpath.basename(path)}", _script(content, base, prefix, name))
            for path, content in base.venv.items()
            if path.startswith("scripts/")
        ),
    ]
    if version >= _WITH_IGNORE:
        entries.append(file_entry(f"{root}/.gitignore", _IGNORE))
    return with_parents(entries)


def _configuration(base: BaseContents, version: tuple[int, ...], prefix: str) -> bytes:
    lines = [
        f"home = {posixpath.dirname(base.python_executable)}",
        "include-system-site-packages = false",
        f"version = {base.python_version}",
    ]
    if version >= _WITH_COMMAND:
        lines += [
            f"executable = {base.python_target}",
            f"command = {base.python_executable} -m venv --without-pip {prefix}",
        ]
    return ("\n".join(lines) + "\n").encode()


def _script(content: bytes, base: BaseContents, prefix: str, name: str) -> bytes:
    source = base.venv["__init__.py"]
    prompt = posixpath.basename(prefix)
    values = {
        "__VENV_DIR__": prefix,
        "__VENV_NAME__": prompt,
        "__VENV_PROMPT__": f"({prompt}) " if b"'(%s) '" in source else prompt,
        "__VENV_BIN_NAME__": "bin",
        "__VENV_PYTHON__": f"{prefix}/bin/{name}",
    }
    # Since 3.12.8 and 3.13.1, and in distributions that have taken that over.
    is_quoted = b"shlex.quote" in source
    text = content.decode()
    for key, value in values.items():
        text = text.replace(key, shlex.quote(value) if is_quoted else value)
    return text.encode()
