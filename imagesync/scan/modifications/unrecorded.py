# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH110, PTH112, PTH118, PTH119, PTH120, PTH206
"""Files that no installer recorded: those that tools leave behind, and the user's own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from imagesync.core.files import read_bytes
from imagesync.scan.environment import Environment, Finding, Severity
from imagesync.scan.modifications.modification import Unowned, UnownedKind, shown

_MODULE_SUFFIXES = (".py", ".so", ".pyd")
_STARTUP = ("sitecustomize", "usercustomize")
# The patterns are compiled where they are used: where nothing has changed, none is.
# What file managers, editors, Jupyter and Python itself write beside any file.
_ANYWHERE = (
    r"(.*/)?(\.DS_Store|Thumbs\.db|\.ipynb_checkpoints/.*|\.nfs[0-9a-f]+|\.gitignore|CACHEDIR\.TAG|[^/]*~"
    r"|lib2to3/Grammar[0-9.a-z]*\.pickle)"
)
# Written by venv, virtualenv, uv, setuptools and distutils, and in no RECORD; `~` marks what pip has renamed.
_SITE = (
    r"_virtualenv\.py|[^/]*\.egg-link|README(\.txt)?"
    r"|__editable__[^/]*|[^/]*\.egg(/.*)?|[^/]*\.(egg|dist)-info(/.*)?|~.*|\.lock|_manylinux\.py"
)
_COMMANDS = (
    r"(bin|Scripts)/(python|pip|wheel|easy_install|pydoc|idle|2to3|[Aa]ctivate|deactivate|conda)[^/]*"
    r"|(bin|Scripts)/\..*|include/(site/)?python[^/]*/.*|etc/xml/catalog"
)
# Made by scripts of conda packages from the files of all packages.
_CONDA = (
    r"conda-meta/.*|share/glib-2\.0/schemas/gschemas\.compiled|share/icons/[^/]*/icon-theme\.cache"
    r"|share/mime/.*|share/info/dir|lib/gdk-pixbuf-2\.0/.*\.cache|lib/gtk-[^/]*/.*\.cache|share/applications/.*\.cache"
    r"|(etc/)?ssl/certs/.*|lib/python[^/]*/config-[^/]*/.*\.pyc|(share/)?fonts/.*\.uuid"
)
# The lines of .pth files that tools write, by the name of the file.
_EASY_INSTALL = (
    rb"import sys; sys\.__plen = len\(sys\.path\)|(\./)?[^/]+\.egg"
    rb"|import sys; new=sys\.path\[sys\.__plen:\]; del sys\.path\[sys\.__plen:\];"
    rb" p=getattr\(sys,'__egginsert',0\); sys\.path\[p:p\]=new; sys\.__egginsert = p\+len\(new\)"
)
# The statements of all versions of setuptools that declare a namespace package.
_NAMESPACE = (
    rb"(import sys, ?(types|new), ?os|has_mfs = sys\.version_info > \(3, 5\)"
    rb"|p = os\.path\.join\((sys\._getframe\(1\)\.f_locals\['sitedir'\]|'([^'\\]|\\\\)*')"
    rb", \*\(('\w+',? ?)+\)\)"
    rb"|ie = os\.path\.exists\(os\.path\.join\(p, ?'__init__\.py'\)\)"
    rb"|importlib = has_mfs and __import__\('importlib\.util'\)"
    rb"|has_mfs and __import__\('importlib\.machinery'\)"
    rb"|m = has_mfs and sys\.modules\.setdefault\('[\w.]+', importlib\.util\.module_from_spec\("
    rb"importlib\.machinery\.PathFinder\.find_spec\('[\w.]+', \[os\.path\.dirname\(p\)\]\)\)\)"
    rb"|m = ((not ie and|m or) )?sys\.modules\.setdefault\('[\w.]+', ?(types\.ModuleType|new\.module)"
    rb"\('[\w.]+'\)\)"
    rb"|mp = \(m or \[\]\) and m\.__dict__\.setdefault\('__path__', ?\[\]\)"
    rb"|\(p not in mp\) and mp\.append\(p\)|m and setattr\(sys\.modules\['[\w.]+'\], '\w+', m\))"
)
_PTH_LINES = (
    (r"_virtualenv\.pth", rb"import _virtualenv"),
    (r"easy-install\.pth|setuptools\.pth", _EASY_INSTALL),
    (
        r"distutils-precedence\.pth",
        rb"import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = "
        rb"os\.environ\.get\(var, '\w+'\) == 'local'; enabled and "
        rb"__import__\('_distutils_hack'\)(\.add_shim\(\))?;?",
    ),
    (r".*-nspkg\.pth", rb"%(one)s(;\s*%(one)s)*" % {b"one": _NAMESPACE}),
)


def is_expected(path: str, *, in_site: bool) -> bool:
    """Return True if the unrecorded file *path* is one that tools write in any environment.

    Parameters
    ----------
    path
        Relative to the folder on ``sys.path``, or to the environment's folder, with ``/``.
    in_site
        Whether it is relative to a folder on ``sys.path``.
    """
    if re.fullmatch(_ANYWHERE, path):
        return True
    if in_site:
        return re.fullmatch(_SITE, path) is not None
    return re.fullmatch(_COMMANDS, path) is not None or re.fullmatch(_CONDA, path) is not None


def is_startup_file(name: str) -> bool:
    """Return True if Python reads a file of that *name* in a folder of packages when it starts."""
    return name.endswith(".pth") or (name.partition(".")[0] in _STARTUP and name.endswith(_MODULE_SUFFIXES))


def startup_kind(path: str) -> UnownedKind | None:
    """Return the kind of a file that Python reads when it starts, or ``None`` if it has no effect of its own.

    A ``.pth`` file that only names folders elsewhere has none: the scan looks at the modules there.
    """
    name = os.path.basename(path)
    if not name.endswith(".pth"):
        return "startup"
    try:
        content = read_bytes(path)
    except OSError:
        return None
    known = [lines for names, lines in _PTH_LINES if re.fullmatch(names, name)]
    folder = os.fsencode(os.path.dirname(path))
    for line in content.splitlines():
        if _takes_effect(line, folder) and not any(re.fullmatch(lines, line.strip()) for lines in known):
            return "pth"
    return None


def _takes_effect(line: bytes, folder: bytes) -> bool:
    """Return True if a line of a ``.pth`` file in *folder* is code, or names a folder in there."""
    if line.startswith((b"import ", b"import\t")):
        return True
    named = os.path.normpath(os.path.join(folder, line.rstrip()))
    return bool(line.strip()) and not line.startswith(b"#") and named.startswith(folder + os.fsencode(os.sep))


def is_module(path: str) -> bool:
    """Return True if *path*, in a folder on ``sys.path``, is a module or a regular package."""
    name = os.path.basename(path)
    if os.path.isdir(path):
        is_whole = os.path.exists(os.path.join(path, "__init__.py"))
        return is_whole and _is_module_name(name)
    # Of a module and a folder with one name, only the folder is looked at.
    stem = name.partition(".")[0]
    folder = os.path.join(os.path.dirname(path), stem)
    return name.endswith(_MODULE_SUFFIXES) and _is_module_name(stem) and not os.path.isdir(folder)


def _is_module_name(name: str) -> bool:
    return name.isidentifier() and not name.startswith("__") and name not in _STARTUP


def unowned_findings(unowned: Iterable[Unowned], environment: Environment) -> tuple[Finding, ...]:
    """Return the findings about files that belong to no package: each path, and what to do."""
    found = list(unowned)
    startup = [_startup_finding(each) for each in found if each.kind != "file"]
    groups: dict[str, list[str]] = {}
    for each in found:
        if each.kind == "file":
            groups.setdefault(_group(each.path, environment), []).append(each.path)
    return (*startup, *(_file_finding(folder, paths) for folder, paths in sorted(groups.items())))


def _startup_finding(unowned: Unowned) -> Finding:
    what = "has lines that take effect" if unowned.kind == "pth" else "runs"
    return Finding(
        Severity.WARNING,
        "startup-code",
        f"{unowned.path} {what} whenever Python starts, and belongs to no package, so the image won't "
        "have it.",
        path=unowned.path,
        hint="Move what it does to a module that your program imports, or to a package that installs the "
        "file; or remove it.",
    )


def _file_finding(folder: str, paths: list[str]) -> Finding:
    belong = "belongs" if len(paths) == 1 else "belong"
    return Finding(
        Severity.WARNING,
        "files-unowned",
        f"{shown(paths)} {belong} to no package, so the image won't have "
        f"{'it' if len(paths) == 1 else 'them'}.",
        path=paths[0] if len(paths) == 1 else folder,
        hint="Put files that your program reads into a package, or mount them where it runs. Modules belong "
        "in a package, too, or in a folder outside of the environment that goes in as it is (--code FOLDER).",
    )


def _group(path: str, environment: Environment) -> str:
    """Return the folder that a finding names: two levels below the environment's, as in ``share/mine``."""
    folder = os.path.dirname(path)
    for root in (*environment.path, environment.python.prefix):
        for real in (os.path.realpath(root), root):
            if folder.startswith(real + os.sep):
                rest = folder[len(real) + 1 :].split(os.sep)
                return os.path.join(real, *rest[:2])
    return folder
