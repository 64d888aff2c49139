"""``imagesync lock``: the exact artifacts of an image, as a lock file in a common format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from imagesync.cli.by_platform import divided, for_each, titled, to_json
from imagesync.cli.options import (
    LOCK_FILE,
    PATH,
    format_option,
    from_option,
    platform_option,
    selection_options,
    session_of,
    settings_options,
)
from imagesync.cli.output import print_json, short_channels
from imagesync.cli.tables import Row, Section, print_sections
from imagesync.core.platforms import find_platform
from imagesync.core.progress import Severity
from imagesync.core.text import counted, format_size
from imagesync.errors import LockError
from imagesync.lock.lock import Deviation, Lock
from imagesync.lock.locked_packages import Artifact, LockedConda, LockedPackage, VendoredPackage
from imagesync.lock.lockfile.save import Form, form_of, left_out, named_files, render, require, save

if TYPE_CHECKING:
    from imagesync.lock.lockfile.differences import Difference
    from imagesync.lock.lockfile.models import Selection
    from imagesync.lock.lockfile.write import Bundle
    from imagesync.session import Session


# Forms whose readers install pip's part by conda's pip.
_FOR_CONDA = ("conda-lock", "explicit")


@click.command()
@settings_options
@platform_option()
@format_option
@click.option(
    "-o", "--output-file", type=PATH, metavar="FILE", help="Write a lock file; its name decides the format."
)
@click.option(
    "--export",
    "form",
    type=click.Choice(["conda-lock", "explicit", "requirements", "pylock"]),
    help="Format of the lock file; printed unless -o is given.",
)
@click.option(
    "--check",
    "checked",
    type=PATH,
    is_flag=False,
    flag_value=LOCK_FILE,
    metavar="[FILE]",
    help=f"Exit 1 if a lock file ({LOCK_FILE}) no longer fits the environment.",
)
@from_option
@selection_options
@click.pass_context
def lock(
    context: click.Context,
    /,
    output: str,
    output_file: Path | None,
    form: Form | None,
    checked: Path | None,
    *,
    manifest: Path | None,
    selection: Selection | None,
    **options: object,
) -> None:
    """Find the exact artifact of each package for the image.

    With -o FILE the lock becomes a lock file: conda-lock.yml, pylock.toml (PEP 751), or requirements.txt
    with hashes, by the file's name or --export. Local wheels are put beside it, in wheels/.
    """
    if checked is not None and (output_file is not None or form is not None or manifest is not None):
        raise click.UsageError("--check can't be combined with -o, --export and --from.")
    if selection and checked is None and manifest is None:
        raise click.UsageError(
            "--group, --extra, --no-dev and --environment choose from a file: --check FILE, or --from FILE."
        )
    session = session_of(context, options)
    if checked is not None:
        _check(session, checked, selection, output)
        return
    form = form_of(output_file) if form is None and output_file is not None else form
    if form is not None:
        # First, because locking takes minutes and a missing tool is known at once.
        require(form, output_file, [context.platform for context in session.context.for_platforms()])
    sessions = session.for_platforms(scans=manifest is None)
    if form is not None:
        frozen = for_each(sessions, lambda each: _freeze(each, manifest, selection, form), what="Lock")
        _write(session, frozen, output_file, form, output)
        return
    locks = for_each(sessions, lambda each: _lock(each, manifest, selection), what="Lock")
    if output == "json":
        print_json(to_json(locks, Lock.to_dict))
    else:
        print_lock(*locks.values())


def _lock(session: Session, path: Path | None, selection: Selection | None) -> Lock:
    return session.lock() if path is None else _solve(session, path, selection, None).lock


def _freeze(session: Session, path: Path | None, selection: Selection | None, form: Form) -> Bundle:
    if path is None:
        return session.freeze(with_pip=form in _FOR_CONDA)
    return _solve(session, path, selection, form)


def _solve(session: Session, path: Path, selection: Selection | None, form: Form | None) -> Bundle:
    from imagesync.lock.manifest_files import read_manifest

    manifest = read_manifest(path, selection, platform=session.context.platform)
    return session.solve(manifest, with_pip=form in _FOR_CONDA)


def _write(
    session: Session, frozen: Mapping[str, Bundle], path: Path | None, form: Form, output: str
) -> None:
    bundles, locks = tuple(frozen.values()), {platform: each.lock for platform, each in frozen.items()}
    files = named_files(bundles, form)
    progress = session.context.progress
    if missing := left_out(bundles, form):
        progress.line(f"A lock of the form '{form}' has no place for: {', '.join(missing)}", Severity.WARNING)
    if path is not None:
        kept = save(bundles, path, form)
        if kept:
            names = " and ".join(str(find_platform(subdir)) for subdir in kept)
            progress.line(f"{path} keeps its section for {names}, which isn't locked again")
        if output == "json":
            print_json(to_json(locks, Lock.to_dict))
            return
        beside = f", and {counted(len(files), 'file')} beside it" if files else ""
        progress.line(f"Wrote {path}{beside}")
        print_lock(*locks.values())
        return
    if files:
        others = f" and {counted(len(files) - 1, 'other file')}" if len(files) > 1 else ""
        progress.line(
            f"The lock names {files[0]}{others}, which --export {form} -o FILE writes beside it",
            Severity.WARNING,
        )
    click.echo(render(bundles, form), nl=False)


def _check(session: Session, path: Path, selection: Selection | None, output: str) -> None:
    from imagesync.lock.lockfile.read import remedy

    sessions = session.for_platforms()
    moved = for_each(sessions, lambda each: each.check_lock(path, selection))
    names = {each.name for differences in moved.values() for each in differences}
    if output == "json":
        print_json(to_json(moved, lambda differences: [each.to_dict() for each in differences]))
    elif names:
        print_moved(moved)
    else:
        click.echo(f"{path} fits the environment")
    if names:
        raise LockError(
            f"{path} no longer fits the environment: {counted(len(names), 'package')} moved.",
            hint=remedy(path),
        )


def print_moved(moved: Mapping[str, Sequence[Difference]], stream: TextIO | None = None) -> None:
    """Print the packages that differ from a lock file, by platform, to stdout by default."""
    if len(moved) == 1:
        print_sections(_moved_section(*moved.values()), stream)
        return
    shared, rests = divided(list(moved.values()))
    sections = [*_moved_section(shared)]
    for platform, rest in zip(moved, rests, strict=True):
        sections += titled(platform, _moved_section(rest))
    print_sections(sections, stream)


def _moved_section(moved: Sequence[Difference]) -> tuple[Section, ...]:
    if not moved:
        return ()
    rows = tuple(
        Row((each.name, each.manager, each.locked or "-", each.here or "-", each.reason), "warning")
        for each in moved
    )
    headers = ("package", "manager", "locked", "here", "what")
    title = f"{counted(len(rows), 'package')} moved"
    return (Section(title, headers, rows, tone="warning", shared=4, wraps=True),)


def print_lock(*locks: Lock, stream: TextIO | None = None) -> None:
    """Print the exact contents of the image, to stdout by default; *locks* are of several platforms."""
    print_sections(lock_sections(locks), stream)


def lock_sections(locks: Sequence[Lock]) -> Iterator[Section]:
    """Yield the tables of locks: deviations from the environment first, then every artifact.

    What the locks of several platforms share comes first.
    """
    deviations, deviation_rests = divided([lock.deviations for lock in locks])
    vendored, vendored_rests = divided([lock.vendored for lock in locks], _unplanned)
    conda, conda_rests = divided([lock.conda for lock in locks], _unplanned)
    packages, package_rests = divided([lock.packages for lock in locks], _unplanned)
    platforms = [str(lock.target.platform) for lock in locks]
    yield from deviation_sections(deviations)
    for platform, own in zip(platforms, deviation_rests, strict=True):
        yield from titled(platform, deviation_sections(own))
    yield from _artifact_sections(vendored, conda, packages)
    for number, platform in enumerate(platforms):
        rest = _artifact_sections(vendored_rests[number], conda_rests[number], package_rests[number])
        yield from titled(platform, rest)
    yield Section(title="", notes=tuple(note for lock in locks for note in _notes(lock)))


def _unplanned(package: LockedConda | LockedPackage | VendoredPackage) -> object:
    """Return a package without its plan, which may differ where the artifact is the same."""
    if isinstance(package, VendoredPackage):
        return package.name, package.version, package.content, package.repacked
    return replace(package, planned=None)


def _artifact_sections(
    vendored: Sequence[VendoredPackage], conda: Sequence[LockedConda], packages: Sequence[LockedPackage]
) -> Iterator[Section]:
    if repacked := [package for package in vendored if package.repacked]:
        rows = [Row((p.name, p.version, p.repacked), "warning") for p in repacked]
        title = f"{counted(len(rows), 'package')} repacked from the installed files"
        headers = ("package", "version", "reason")
        yield Section(title, headers, tuple(rows), tone="warning", shared=2, wraps=True)
    if local := [package for package in vendored if not package.repacked]:
        rows = [Row((p.name, p.version, p.planned.source.description)) for p in local]
        yield Section("wheels made on this machine", ("package", "version", "source"), tuple(rows))
    if conda:
        yield _conda_section(conda)
    if packages:
        yield _index_section(packages)


def _notes(lock: Lock) -> tuple[str, ...]:
    target = lock.target
    fetched = [package.artifact for package in lock.conda] + [package.artifact for package in lock.packages]
    sizes = [artifact.size for artifact in fetched]
    known = sum(size for size in sizes if size is not None)
    at_least = "at least " if None in sizes else ""
    conda = f"{counted(len(lock.conda), 'conda package')}, " if lock.conda else ""
    of_pip = len(lock.packages) + len(lock.vendored)
    where = "to fetch" if lock.conda else "from indexes"
    return (
        f"{target.platform}, {target.implementation} {target.python_version}, "
        f"glibc {'.'.join(str(part) for part in target.glibc)}, resolver {lock.resolver}",
        f"{conda}{f'{of_pip} from pip' if lock.conda else counted(of_pip, 'package')}, "
        f"{at_least}{format_size(known)} {where}, {counted(len(lock.deviations), 'deviation')}",
        f"lock {lock.digest}",
    )


def _conda_section(packages: Sequence[LockedConda]) -> Section:
    channels = short_channels({package.channel for package in packages})
    rows = [
        Row((p.name, p.version, p.build, channels[p.channel], _size(p.artifact), p.artifact.filename))
        for p in packages
    ]
    headers = ("package", "version", "build", "channel", "size", "artifact")
    # The artifact's name repeats the first three.
    return Section("artifacts from conda channels", headers, tuple(rows), frozenset({4}), optional=(5, 4, 3))


def _index_section(packages: Sequence[LockedPackage]) -> Section:
    rows = [Row((p.name, p.version, _size(p.artifact), p.artifact.filename)) for p in packages]
    headers = ("package", "version", "size", "artifact")
    return Section("artifacts from the indexes", headers, tuple(rows), frozenset({2}))


def _size(artifact: Artifact) -> str:
    return "" if artifact.size is None else format_size(artifact.size)


def deviation_sections(deviations: Sequence[Deviation]) -> tuple[Section, ...]:
    """Return the table of deviations from the environment, or nothing if there are none."""
    if not deviations:
        return ()
    rows = [Row((d.name, d.local, d.outcome, d.level.value, d.reason), "warning") for d in deviations]
    title = f"{counted(len(rows), 'deviation')} from the local environment"
    headers = ("package", "here", "in the image", "level", "reason")
    return (Section(title, headers, tuple(rows), tone="warning", shared=4, optional=(3,), wraps=True),)
