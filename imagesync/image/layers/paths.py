"""Paths that a layer can hold, and paths that several packages have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from imagesync.errors import RenderError

_WHITEOUT = ".wh."


def check_paths(paths: Iterable[str], archive: str) -> None:
    """Check the paths of an archive's files, relative to the root of the image.

    Raises
    ------
    RenderError
        One leads out of the environment, or a layer would take it for the removal of a file.
    """
    for path in paths:
        names = path.split("/")
        if ".." in names or "" in names or "." in names or "\0" in path:
            raise RenderError(
                f"{archive} has a file that leads out of the environment: {path}",
                hint="Tell the authors of the package. Leave it out with --ignore NAME.",
            )
        for name in names:
            if name.startswith(_WHITEOUT):
                raise RenderError(
                    f"{archive} has a file called {name}, by which layers mark removed files: {path}",
                    hint="Images can't hold such a file. Leave the package out with --ignore NAME.",
                )


def check_kinds(paths: Mapping[str, Sequence[str]]) -> None:
    """Check that no path is a directory in one package and a file or link in another.

    Parameters
    ----------
    paths
        The files and links of each package, by its name.

    Raises
    ------
    RenderError
        One is; the message names both packages.
    """
    files = {path: name for name, found in paths.items() for path in found}
    for name, found in paths.items():
        for folder in {path.rpartition("/")[0] for path in found}:
            above = folder
            while above:
                if above in files:
                    raise RenderError(
                        f"{above} is a file in {files[above]}, and a folder in {name}.",
                        hint="One environment can't hold both. Leave one out with --ignore NAME.",
                    )
                above = above.rpartition("/")[0]


def refuse_shared(paths: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]]) -> None:
    """Check that no package has a path of *others*; both have the paths by what they are of.

    Raises
    ------
    RenderError
        One has; the message names both.
    """
    owners = {path: name for name, found in others.items() for path in found}
    for name, found in paths.items():
        for path in found:
            if path in owners:
                raise RenderError(
                    f"{name} has /{path}, which is a file of {owners[path]}.",
                    hint="One of them would replace the other. Leave the package out with --ignore NAME.",
                )


def shared_paths(paths: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the paths that several packages have, each with the packages in their order.

    >>> shared_paths({"a": ["x", "y"], "b": ["y"]})
    {'y': ['a', 'b']}
    """
    owners: dict[str, list[str]] = {}
    for name, found in paths.items():
        for path in found:
            owners.setdefault(path, []).append(name)
    return {path: names for path, names in owners.items() if len(names) > 1}
