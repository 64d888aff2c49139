"""Copies of source trees that builds may write into, so that the user's files stay unchanged."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagesync.errors import WheelError
from imagesync.wheels.sources.source_tree import GIT_OPTIONS, git_environment, repository_root, source_files
from imagesync.wheels.sources.untracked_files import UntrackedFiles, ignored_files, neighbouring_files


@dataclass(frozen=True)
class BuildCopy:
    """The copy of a source tree.

    Parameters
    ----------
    folder
        The project's folder in the copy.
    files
        The source files, relative to *folder*.
    untracked
        The files that the copy has beside the source files.
    """

    folder: Path
    files: Sequence[str]
    untracked: UntrackedFiles


def copy_for_build(folder: Path, into: Path) -> BuildCopy:
    """Copy the source tree *folder* into the empty folder *into*.

    The copy has the files that the digest covers. It also has files that git ignores, because a build may
    use or rewrite a generated file, and the files beside *folder* in the same repository (a project may
    refer to ``../README.md``). It has the repository's history, for backends that take versions and file
    lists from it.

    Raises
    ------
    WheelError
        *folder* is gone, or a file in it can't be read, or its path leads out of the copy.
    """
    root = repository_root(folder)
    copy = into if root is None or root == folder else into / folder.relative_to(root)
    copy.mkdir(parents=True, exist_ok=True)
    files = source_files(folder)
    for path in files:
        _copy_file(folder / path, copy / path, within=into)
    untracked = UntrackedFiles()
    untracked.add(ignored_files(folder, copy, listed=files))
    if root is not None:
        untracked.add(neighbouring_files(root, folder, into))
        _copy_history(root, folder, into)
    return BuildCopy(copy, files, untracked)


def _copy_file(source: Path, destination: Path, *, within: Path) -> None:
    # Where the copy's file system ignores case, a link and a folder of the tree may be one there.
    if not destination.parent.resolve().is_relative_to(within.resolve()):
        raise WheelError(
            f"The source file {source} isn't copied, because its path leads out of the copy.",
            hint="Remove it, or the link on its path.",
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode):
            # Links inside the copy are kept; others are replaced by absolute ones.
            target = os.fspath(source.readlink())
            if not Path(os.path.normpath(destination.parent / target)).is_relative_to(within):
                target = os.fspath(source.resolve())
            destination.symlink_to(target)
        elif stat.S_ISREG(mode):
            shutil.copy2(source, destination)
            destination.chmod(stat.S_IMODE(mode) | stat.S_IWUSR | stat.S_IRUSR)
    except FileNotFoundError:
        return  # tracked, and deleted since
    except OSError as error:
        raise WheelError(
            f"The source file {source} can't be copied: {error.strerror}.",
            hint="Make it readable for yourself, and see that there is room in the temporary folder.",
        ) from error


def _copy_history(root: Path, folder: Path, into: Path) -> None:
    """Make *into* a repository with the objects, references and index of the one at *root*.

    Objects are shared, so the time doesn't depend on the size of the history. The user's configuration isn't
    copied, because the URLs of remotes may have credentials.
    """
    facts = _git(root, "rev-parse", "--git-common-dir", "--git-path", "index", "HEAD")
    references = _git(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/tags", "refs/heads")
    if facts is None or references is None or len(facts.split("\n")) != 4:
        return  # git is missing, or there is no commit yet
    common, index, head, _ = facts.split("\n")
    objects = (root / common / "objects").resolve()
    git = into / ".git"
    if _git(into, "init", "--quiet", "--template=") is None:
        return
    (git / "objects" / "info").mkdir(parents=True, exist_ok=True)
    (git / "objects" / "info" / "alternates").write_text(f"{objects}\n", encoding="utf-8")
    (git / "packed-refs").write_text(references, encoding="utf-8")
    (git / "HEAD").write_text(f"{head}\n", encoding="utf-8")
    with contextlib.suppress(OSError):
        shutil.copyfile(root / index, git / "index")
    if folder != root:
        # Other files of the repository are linked or missing, which must not look like an edit.
        inside = folder.relative_to(root).as_posix()
        outside = _git(into, "ls-files", "-z", "--", ".", f":(exclude,literal){inside}")
        _git(into, "update-index", "-z", "--skip-worktree", "--stdin", text=outside)


def _git(folder: Path, *arguments: str, text: str | None = None) -> str | None:
    """Return the output of git, or ``None`` if it fails or is missing."""
    try:
        done = subprocess.run(
            ["git", *GIT_OPTIONS, *arguments],
            cwd=folder,
            env=git_environment(),
            input=text or "",
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
