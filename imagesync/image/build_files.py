"""The shipped files that go into an image or run in its build, and their digest for the environment hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imagesync.errors import RenderError
from imagesync.image.templates import shipped_templates, user_files
from imagesync.standalone.programs import program_modules, program_path, program_text

TEMPLATES: Final = ("Dockerfile.j2", "image/activate.sh.j2", "image/conda.j2", "image/wheels.j2")
"""The templates of the Dockerfile and of what it copies."""
PROGRAMS: Final = ("compile_modules", "install_code", "install_wheels", "restore_conflicts")
"""The programs of ``standalone/image`` that run in every build."""
CONDA_PROGRAMS: Final = ("convert_bytecode", "install_conda")
"""Those that also run in builds with conda packages, beside :data:`RATTLER_INSTALL`."""
RATTLER_INSTALL: Final = Path(__file__).parent / "conda" / "rattler_install.py"


def build_programs(*, conda: bool) -> dict[str, str]:
    """Return the text of each program that runs in a build, by its path in the context.

    Parameters
    ----------
    conda
        Whether the build installs conda packages.
    """
    programs = (*PROGRAMS, *(CONDA_PROGRAMS if conda else ()))
    texts = {f"tools/{name}.py": program_text(f"image.{name}") for name in programs}
    if conda:
        texts[f"tools/{RATTLER_INSTALL.name}"] = RATTLER_INSTALL.read_text(encoding="utf-8")
    return texts


def build_files() -> Iterator[tuple[str, Path]]:
    """Yield name and path of every shipped file that goes into an image or runs in its build, sorted."""
    for name in TEMPLATES:
        yield f"templates/{name}", shipped_templates() / name
    programs = (*PROGRAMS, *CONDA_PROGRAMS)
    for module in sorted({module for name in programs for module in program_modules(f"image.{name}")}):
        yield f"standalone/{module}", program_path(module)
    yield RATTLER_INSTALL.name, RATTLER_INSTALL


def build_files_digest(folder: Path | None) -> str:
    """Return ``sha256:<hex>`` over name and content of all files that shape an image.

    Parameters
    ----------
    folder
        The user's own templates. All files count but hidden ones and those in ``cluster/``, which shape what
        starts an image.

    Raises
    ------
    RenderError
        The user's folder doesn't exist, or can't be read.
    """
    digest = hashlib.sha256()
    for name, path in build_files():
        _update(digest, name, path)
    if folder is not None:
        for path in user_files(folder):
            name = path.relative_to(folder).as_posix()
            if not name.startswith("cluster/"):
                _update(digest, f"user/{name}", path)
    return f"sha256:{digest.hexdigest()}"


def _update(digest: hashlib._Hash, name: str, path: Path) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RenderError(f"can't read the template {path}: {error.strerror}") from error
    digest.update(f"{len(name)}:{name}{len(content)}:".encode())
    digest.update(content)
