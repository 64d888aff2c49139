"""Collecting loose code: from the setting ``code`` to the files of the image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagesync.core.platforms import Platform, runs_on
from imagesync.core.text import first_of, format_size
from imagesync.errors import PlanError
from imagesync.loose_code.owners import ModuleOwner, Owners
from imagesync.loose_code.tree import OUTSIDE, SECRET, Tree, collect_files, read_tree
from imagesync.plan.checks.modules import standard_library
from imagesync.plan.checks.sources import local_path
from imagesync.plan.loose_code import MODULE_SUFFIXES, Code, CodeFile, CodePath, top_level_modules
from imagesync.scan.distributions.editables import is_inside
from imagesync.scan.environment import Environment, Finding, Interpreter, Severity
from imagesync.scan.environment_files import platform_of_executable
from imagesync.store.layout import CODE

_SHOWN = 5
# Extension modules, and libraries that they load.
_COMPILED = re.compile(r"\.(so|pyd|dylib|dll)(\.[0-9.]+)?$")


def collect_code(
    paths: Sequence[Path],
    *,
    max_size: int,
    environment: Environment,
    platform: Platform,
    shipped: Iterable[str],
    cache: Path | None = None,
) -> Code:
    """Return the loose code at *paths* for the image.

    Parameters
    ----------
    paths
        Folders and modules; earlier ones take precedence, as on ``sys.path``.
    max_size
        The limit for the total size, in bytes.
    environment
        The scanned environment.
    platform
        That of the image.
    shipped
        The distributions in the image, by canonical name, whose modules are left out.
    cache
        The cache folder of imagesync; ``None`` for no cache.

    Raises
    ------
    UsageError
        A path doesn't exist, or has nothing that can be imported.
    PlanError
        The code is larger than *max_size*; the message names the largest files.
    WheelError
        A file can't be read.
    """
    if not paths:
        return Code()
    collection = _Collection(Owners(environment, frozenset(shipped)), environment.python.libc, platform)
    digests = None if cache is None else cache / CODE
    collected: list[CodePath] = []
    for tree in [read_tree(path, store=cache) for path in dict.fromkeys(paths)]:
        collection.exclude_provided(tree)
        collection.exclude_foreign(tree)
        collected.append(collect_files(tree, excluded=collection.excluded, cache=digests))
        collection.claim(collected[-1])
        collection.report_foreign(collected[-1])
    findings = [*collection.findings, *_findings(collected, environment.python)]
    code = Code(tuple(collected), tuple(findings))
    _refuse_large(code, max_size)
    return code


@dataclass
class _Collection:
    """The files and modules of earlier paths, and the modules that the next path must leave out."""

    owners: Owners
    libc: str
    platform: Platform
    findings: list[Finding] = field(default_factory=list)
    _files: set[str] = field(default_factory=set)
    _modules: dict[str, str] = field(default_factory=dict)
    _reasons: dict[str, str] = field(default_factory=dict)
    _foreign: dict[str, str] = field(default_factory=dict)

    def exclude_foreign(self, tree: Tree) -> None:
        """Exclude the machine code of *tree* that can't run in the image, by the headers of the files."""
        self._foreign = {}
        for name in tree.stats:
            if _COMPILED.search(name):
                platform = _platform(tree.folder / name)
                if platform and not runs_on(self.platform, local=platform, libc=self.libc):
                    self._foreign[tree.image_prefix + name] = platform

    def report_foreign(self, path: CodePath) -> None:
        """Report the excluded machine code of *path*; it matters where no other file has the module."""
        if not self._foreign:
            return
        found = {_module_name(file.path) for file in path.files}
        missing = sorted(name for name in self._foreign if _module_name(name) not in found)
        platforms = " and ".join(sorted(set(self._foreign.values())))
        if not missing:
            effect = "The modules are there for the image's platform, too."
        elif len(missing) == len(self._foreign):
            effect = "These modules can't be imported there."
        else:
            effect = f"{first_of(missing, _SHOWN)} can't be imported there."
        self.findings.append(
            Finding(
                Severity.WARNING if missing else Severity.INFO,
                "code-compiled",
                f"Left out of {path.path}, because it is machine code for {platforms}, and the image is for "
                f"{self.platform}: {first_of(sorted(self._foreign), _SHOWN)}. {effect}",
                path=path.path,
                hint="Make a package of it and install that, so that it can be built for the image; or put "
                f"files for {self.platform} beside it.",
            )
        )

    def exclude_provided(self, tree: Tree) -> None:
        """Exclude the modules of *tree* that a distribution or an earlier path provides."""
        self._reasons = {}
        for module in sorted(top_level_modules(tree.image_prefix + name for name in tree.stats)):
            path = _module_path(tree, module)
            regular = not path.is_dir() or (path / "__init__.py").exists()
            owner = self.owners.find(module)
            if module in self._modules and regular:
                self._reasons[module] = f"{self._modules[module]} has a module of that name"
                self.findings.append(_twice(module, path, self._modules[module]))
            elif owner is not None and (regular or owner.regular):
                self._exclude(module, path, owner)

    def _exclude(self, module: str, path: Path, owner: ModuleOwner) -> None:
        name = owner.package.name
        source = local_path(owner.package.source)
        same = any(is_inside(str(path), folder) for folder in (owner.path, source) if folder)
        self._reasons[module] = f"the package {name} provides it"
        self.findings.append(_shipped(module, path, name) if same else _shadowed(module, path, name))

    def excluded(self, path: str) -> str:
        """Return the reason to leave out the file at *path* in the image; empty for none."""
        first = path.partition("/")[0]
        module = first if "/" in path else first.partition(".")[0]
        if path in self._foreign:
            return f"it is machine code for {self._foreign[path]}"
        if module in self._reasons and ("/" in path or path.endswith((*MODULE_SUFFIXES, ".pyi"))):
            return self._reasons[module]
        return "an earlier path has a file of that name" if path in self._files else ""

    def claim(self, path: CodePath) -> None:
        """Record the files and modules of *path*."""
        self._files.update(file.path for file in path.files)
        for module in path.modules:
            self._modules.setdefault(module, path.path)


def _platform(path: Path) -> str:
    """Return the platform that a file holds machine code for; empty if it holds none."""
    try:
        with path.open("rb") as file:
            return platform_of_executable(file.read(4096))
    except OSError:
        return ""  # reported when its digest is computed


def _module_name(path: str) -> str:
    """Return the path of a module without its suffixes, such as ``tools/fast``."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _module_path(tree: Tree, module: str) -> Path:
    """Return the file or folder of a top-level module."""
    folder = (tree.folder.parent if tree.image_prefix else tree.folder) / module
    if folder.is_dir():
        return folder
    files = [name for name in tree.stats if "/" not in name and name.partition(".")[0] == module]
    return tree.folder / next((name for name in files if name.endswith(MODULE_SUFFIXES)), module)


def _shipped(module: str, path: Path, package: str) -> Finding:
    return Finding(
        Severity.INFO,
        "code-already-shipped",
        f"{path} is part of the package {package}, which the image holds; it doesn't go in twice.",
        path=str(path),
        package=package,
        hint=f"Nothing is missing. The setting 'code' needn't cover {module}.",
    )


def _shadowed(module: str, path: Path, package: str) -> Finding:
    return Finding(
        Severity.WARNING,
        "code-shadowed",
        f"{path} is left out: the package {package} has a module '{module}' as well, which would be "
        "imported in its place.",
        path=str(path),
        package=package,
        hint="Rename yours, or make a package of it and install that.",
    )


def _twice(module: str, path: Path, earlier: str) -> Finding:
    return Finding(
        Severity.WARNING,
        "code-twice",
        f"{path} is left out: {earlier}, which comes earlier in 'code', has a module '{module}' as well.",
        path=str(path),
        hint="Rename one of them, or change their order.",
    )


def _findings(paths: Iterable[CodePath], python: Interpreter) -> Iterator[Finding]:
    standard = standard_library(python.minor)
    for path in paths:
        yield from _left_out_findings(path)
        for module in path.modules:
            if module in standard:
                yield Finding(
                    Severity.WARNING,
                    "code-shadows-standard-library",
                    f"The standard library has a module '{module}', too, which is imported in the image in "
                    f"place of the one in {path.path}.",
                    path=path.path,
                    hint="Rename yours.",
                )
        if not path.modules:
            yield Finding(
                Severity.WARNING,
                "code-without-modules",
                f"Nothing of {path.path} that goes in can be imported.",
                path=path.path,
                hint="Name the folder that holds the modules, as it would stand on sys.path.",
            )


def _left_out_findings(path: CodePath) -> Iterator[Finding]:
    secrets = [name for name, reason in path.left_out if reason == SECRET]
    links = [name for name, reason in path.left_out if reason == OUTSIDE]
    if secrets:
        yield Finding(
            Severity.WARNING,
            "code-secret-left-out",
            f"Left out of {path.path}, because they look like secrets: {first_of(secrets, _SHOWN)}.",
            path=path.path,
            hint="Give secrets to containers as variables or mounts, and name them in .gitignore.",
        )
    if links:
        yield Finding(
            Severity.WARNING,
            "code-link-left-out",
            f"Left out of {path.path}, because these links lead out of it, or to what doesn't go in: "
            f"{first_of(links, _SHOWN)}.",
            path=path.path,
            hint="Copy what they lead to, or name it in 'code' as well.",
        )


def _refuse_large(code: Code, max_size: int) -> None:
    if code.size <= max_size:
        return
    largest: list[CodeFile] = sorted(code.files, key=lambda file: -file.size)[:_SHOWN]
    raise PlanError(
        f"The loose code is {format_size(code.size)}, and may be {format_size(max_size)} (code-max-size). "
        "The largest files:\n" + "\n".join(f"  {format_size(file.size)} {file.source}" for file in largest),
        hint="Name them in .gitignore, name fewer folders in 'code', or raise 'code-max-size'. Data that is "
        "large belongs in a volume or an object store.",
    )
