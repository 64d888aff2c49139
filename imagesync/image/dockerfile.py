"""Make the build context of a lock: render the Dockerfile and collect its files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from packaging.utils import InvalidWheelFilename, NormalizedName, parse_wheel_filename

from imagesync.core.digests import sha256_of
from imagesync.core.names import canonical_name
from imagesync.engine.build_context import ContextFile
from imagesync.errors import RenderError
from imagesync.image.dockerfile_options import (
    copied_files,
    copy_instructions,
    environment_variables,
    owner_of,
    run_lines,
    workdir_command,
)
from imagesync.image.image_context import BuildContext
from imagesync.image.labels import Part, image_labels
from imagesync.image.templates import (
    base_stages,
    base_target,
    build_programs,
    dockerfile_base,
    render_template,
    shipped_templates,
    user_files,
)
from imagesync.image_layout import (
    CODE,
    HOME,
    INVENTORY,
    PREFIX,
    PYTHON,
    USER,
    ImageOptions,
    site_packages,
)
from imagesync.inventory.inventory import to_json
from imagesync.lock.layers import local_layer

if TYPE_CHECKING:
    from imagesync.image.conda.layer import CondaLayer
    from imagesync.image_layout import BaseImage
    from imagesync.inventory.inventory import Inventory
    from imagesync.lock.lock import Lock
    from imagesync.loose_code.code_layer import CodeLayer
    from imagesync.store.store import StoredFile


# Values of the templates that are the same for each image.
_PATHS = {
    "code_folder": str(CODE),
    "home": str(HOME),
    "prefix": str(PREFIX),
    "python": str(PYTHON),
    "user": USER,
}


@dataclass(frozen=True)
class Wheels:
    """The wheels of one layer, and their bytecode.

    Parameters
    ----------
    wheels
        With valid file names of wheels.
    bytecode
        Archives of compiled modules, members relative to site-packages; other modules are compiled in the
        build.
    """

    wheels: tuple[StoredFile, ...] = ()
    bytecode: tuple[StoredFile, ...] = ()


def make_context(
    lock: Lock,
    *,
    base: BaseImage,
    environment_hash: str,
    name: str,
    packages: Wheels,
    vendored: Wheels,
    installer: Path | None,
    templates: Path | None,
    version: str,
    created: int = 0,
    part: Part = "whole",
    standalone: bool = False,
    packages_image: str | None = None,
    code: CodeLayer | None = None,
    file_conflicts: Mapping[str, str] | None = None,
    shared_conda_files: Mapping[str, tuple[str, ...]] | None = None,
    conda: CondaLayer | None = None,
    inventory: Inventory | None = None,
    input_hash: str = "",
    critical_imports: Sequence[str] = (),
    options: ImageOptions | None = None,
) -> BuildContext:
    """Return the build context of a lock, or of one of the two parts that an image is built in.

    Parameters
    ----------
    lock
        The packages of the image.
    base
        The base image of the Dockerfile.
    environment_hash
        ``sha256:<hex>``.
    name
        The reference that the image is going to have.
    packages, vendored
        The wheels from indexes, and those made on this machine: one for each package of the lock. When
        building on top of a packages image, only those of local packages.
    installer
        A uv executable for the image's platform; ``None`` on top of a packages image.
    templates
        The user's own templates.
    version
        Of imagesync.
    created
        Seconds since the epoch, such as ``SOURCE_DATE_EPOCH``; the same inputs give the same image labels.
    part
        ``packages`` is the image of packages from indexes and channels, and *lock* has no others;
        the hashes and *name* are then those of the packages image. ``environment`` is built on it.
    standalone
        Whether the Dockerfile makes the base image, too, as its first stage.
    packages_image
        The reference of the packages image that ``environment`` is built on.
    code
        Modules without a package; ``None`` if there are none.
    file_conflicts
        The sha256 of each file that several packages have, as it is installed locally; kept in a label.
        ``None`` if no installed files are known.
    shared_conda_files
        See :func:`~imagesync.scan.conda.shared_files.shared_files`; kept in a label. ``None`` if it isn't
        known whose files are installed anywhere.
    conda
        The packages from conda channels; ``None`` if there are none, and on top of a packages image.
    inventory
        The content of the image, for later comparisons; ``None`` for an image without it.
    input_hash
        The hash of the inputs that led to this content, ``sha256:<hex>``.
    critical_imports
        The modules whose imports will be verified in the image; kept in a label.
    options
        What the user's settings say of the image besides its packages; by default, and for *packages*,
        nothing. Its commands are in the Dockerfile if that is *standalone*, else they are the last build's.

    Raises
    ------
    RenderError
        A template fails, or the wheels aren't those of the lock.
    """
    options = options or ImageOptions()
    base_text = dockerfile_base(templates)
    layer = local_layer(lock) if part == "environment" else lock
    names = {package.name for package in layer.packages}, {package.name for package in layer.vendored}
    conflicting = file_conflicts or {}
    requirements = {
        "requirements.txt": _requirements(packages.wheels, names[0], conflicting),
        "requirements-vendored.txt": _requirements(vendored.wheels, names[1], conflicting),
    }
    labels = image_labels(
        lock,
        base,
        environment_hash=environment_hash,
        input_hash=input_hash,
        name=name,
        version=version,
        created=created,
        part=part,
        file_conflicts=file_conflicts,
        shared_conda_files=shared_conda_files,
        critical_imports=critical_imports,
        inventory=inventory,
        own=options.labels,
    )
    stages = base_stages(base_text, base.pinned or base.root, base.apt) if standalone else None
    values = {
        **_PATHS,
        "base": base,
        "base_args": {"BASE": base.pinned or base.root, "APT": " ".join(base.apt)},
        "base_images": _base_images(base, stages, is_conda=bool(lock.conda)),
        "base_stages": stages,
        "code": code,
        "conda_stage": conda is not None and not base.toolchain,
        "copied_files": copy_instructions(options),
        "file_conflicts": conflicting,
        "conda": conda,
        "environment": environment_variables(lock, options),
        "environment_hash": environment_hash,
        "inventory_path": str(INVENTORY) if inventory is not None else None,
        "labels": labels,
        "lock": lock,
        "name": name,
        "options": options,
        "owner": owner_of(options.user),
        "packages": layer.packages,
        "packages_bytecode": packages.bytecode,
        "packages_image": packages_image,
        "part": part,
        "requirements_digests": {
            **{path: sha256_of(text) for path, text in requirements.items()},
            "conda": sha256_of(_conda_texts(conda)) if conda is not None else "",
        },
        "run_lines": run_lines(options) if standalone else [],
        "site_packages": str(site_packages(lock.target.minor)),
        "vendored": layer.vendored,
        "vendored_bytecode": vendored.bytecode,
        "version": version,
        "workdir_command": workdir_command(options),
    }
    dockerfile = render_template("Dockerfile.j2", values, folder=templates)
    files = [
        *(_documentation(values, lock, dockerfile, templates, base_text) if standalone else []),
        *(ContextFile.from_text(path, text) for path, text in requirements.items()),
        *_tools(installer, is_conda=conda is not None, is_vendored=bool(layer.vendored)),
        *copied_files(options),
        *([] if part == "environment" else [_profile(values, templates)]),
        *_stored("wheels/index", packages.wheels),
        *_stored("wheels/vendored", vendored.wheels),
        *_stored("bytecode/index", packages.bytecode),
        *_stored("bytecode/vendored", vendored.bytecode),
        *(_stored("code", code.files) if code is not None else []),
        *(_conda_files(conda, values, templates) if conda is not None else []),
        *([] if inventory is None else [ContextFile.from_text("environment.json", to_json(inventory))]),
        *_user_files(templates),
    ]
    _refuse_duplicates(files)
    files.sort(key=lambda file: file.path)
    files.insert(0, ContextFile.from_text("Dockerfile", dockerfile))
    return BuildContext(tuple(files), base, lock, environment_hash, labels, name, options)


def _base_images(base: BaseImage, stages: str | None, *, is_conda: bool) -> dict[str, str]:
    """Return the base image with Python and that of the environment, as ``FROM`` names them.

    They are stages where *stages* are part of the Dockerfile.
    """
    own = base.minimal if is_conda else base.reference
    if stages is None:
        return {"python": base.reference, "environment": own}
    python = base_target(stages, "build" if base.toolchain else "runtime")
    is_minimal = own != base.reference
    return {"python": python, "environment": base_target(stages, "minimal") if is_minimal else python}


def _profile(values: Mapping[str, Any], templates: Path | None) -> ContextFile:
    text = render_template("image/profile.sh.j2", values, folder=templates)
    return ContextFile.from_text("tools/profile.sh", text)


def _conda_texts(conda: CondaLayer) -> str:
    return conda.explicit() + conda.compiled() + conda.owners_json() + conda.records_json()


def _tools(installer: Path | None, *, is_conda: bool, is_vendored: bool) -> list[ContextFile]:
    """Return the programs that run in the build, and the context's ``.dockerignore``."""
    return [
        ContextFile.from_file(".dockerignore", shipped_templates() / "context" / "dockerignore"),
        *(ContextFile.from_text(path, text) for path, text in build_programs(conda=is_conda).items()),
        *([] if installer is None else [ContextFile.from_file("tools/uv", installer, mode=0o755)]),
        *(_installer_files() if is_vendored else []),
    ]


def _documentation(
    values: Mapping[str, Any], lock: Lock, dockerfile: str, templates: Path | None, base_text: str
) -> list[ContextFile]:
    """Return files for people, and the base image's Dockerfile if *dockerfile* has no stage for it."""
    # The user's own template may leave the stage out.
    is_apart = values["base_stages"] not in dockerfile
    target = base_target(base_text, "build" if values["base"].toolchain else "runtime")
    apart = {"base_apart": is_apart, "base_target": target}
    readme = render_template("context/README.md.j2", {**values, **apart}, folder=templates)
    return [
        ContextFile.from_text("README.md", readme),
        ContextFile.from_text("lock.json", json.dumps(lock.to_dict(), indent=2, sort_keys=True) + "\n"),
        *([ContextFile.from_text("base/Dockerfile", base_text)] if is_apart else []),
    ]


def _installer_files() -> list[ContextFile]:
    """Return PyPA's installer, which is pure Python, without its launchers for Windows."""
    import installer

    folder = Path(installer.__file__).parent
    modules = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.py"))]
    return [ContextFile.from_file(f"tools/installer/{name}", folder / name) for name in modules]


def _conda_files(conda: CondaLayer, values: Mapping[str, Any], templates: Path | None) -> list[ContextFile]:
    """Return the lists of archives, the archives themselves unless images have them, and their installer."""
    micromamba = conda.installer.micromamba
    rattler = conda.installer.rattler if conda.installer.image is None else ()
    archives = () if conda.images else zip(conda.packages, conda.archives, strict=True)
    activate = render_template("image/activate.sh.j2", values, folder=templates)
    return [
        ContextFile.from_text("conda/explicit.txt", conda.explicit()),
        ContextFile.from_text("conda/bytecode.txt", conda.compiled()),
        ContextFile.from_text("conda/owners.json", conda.owners_json()),
        ContextFile.from_text("conda/records.json", conda.records_json()),
        *(file for package, archive in archives for file in _stored(f"conda/{package.subdir}", [archive])),
        *([] if conda.images else _stored("bytecode/conda", conda.bytecode)),
        ContextFile.from_text("tools/activate.sh", activate),
        *([] if micromamba is None else [ContextFile.from_file("tools/micromamba", micromamba, mode=0o755)]),
        *(ContextFile.from_file(f"tools/rattler/{name}", path) for name, path in rattler),
    ]


def _requirements(
    wheels: Sequence[StoredFile], expected: set[NormalizedName], file_conflicts: Mapping[str, str]
) -> str:
    """Return hashed requirements for exactly these wheels, and as comments which files are *file_conflicts*.

    The hashes are those of the wheels; the lock may name the sdist that a wheel was built from.
    """
    lines: dict[str, str] = {}
    for wheel in wheels:
        try:
            name, version, _, _ = parse_wheel_filename(wheel.filename)
        except InvalidWheelFilename as error:
            raise RenderError(f"{wheel.filename} isn't a wheel's file name") from error
        lines[canonical_name(name)] = f"{name}=={version} --hash={wheel.digest}\n"
    if missing := sorted(expected - set(lines)):
        raise RenderError(f"no wheel was made for {', '.join(missing)}")
    if surplus := sorted(set(lines) - expected):
        raise RenderError(f"a wheel is there that the lock doesn't name: {', '.join(surplus)}")
    files = "".join(f"# file {sha256} {path}\n" for path, sha256 in sorted(file_conflicts.items()))
    return "".join(lines[name] for name in sorted(lines)) + (files if wheels else "")


def _stored(folder: str, files: Sequence[StoredFile]) -> list[ContextFile]:
    return [ContextFile(str(PurePosixPath(folder, file.filename)), file.path, file.size) for file in files]


def _user_files(templates: Path | None) -> list[ContextFile]:
    """Return the files that a user's template can ``COPY``: the folder ``files`` among the templates."""
    if templates is None:
        return []
    folder = templates / "files"
    if not folder.is_dir():
        return []

    def mode(path: Path) -> int:
        return 0o755 if path.stat().st_mode & 0o100 else 0o644

    return [
        ContextFile.from_file(f"files/{path.relative_to(folder).as_posix()}", path, mode=mode(path))
        for path in user_files(folder)
    ]


def _refuse_duplicates(files: Sequence[ContextFile]) -> None:
    twice = sorted(path for path, count in Counter(file.path for file in files).items() if count > 1)
    if twice:
        raise RenderError(f"two files of the build context have one name: {', '.join(twice)}")
