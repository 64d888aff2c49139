"""Compiles the modules of wheels to bytecode; runs inside the scanned interpreter, standard library only.

Started as a script (CPython 3.8 and later), it greets with one JSON line, ``{"magic": "<hex>"}``, then
answers each line on stdin, ``{"wheel": path, "archive": path, "site_packages": path}``, with one line:
``{"modules": count}``, or ``{"error": text}``. It ends with its stdin.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
import zipfile
from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore[import-not-found]

_DATE = (1980, 1, 1, 0, 0, 0)  # zip can't hold an earlier time
_REGULAR = 0o100644 << 16


def main() -> None:
    """Answer requests until stdin ends."""
    warnings.simplefilter("ignore")
    # Old code recurses deeply in the compiler; such modules are left out, as with pip.
    print(json.dumps({"magic": importlib.util.MAGIC_NUMBER.hex()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"modules": compile_wheel(request["wheel"], request["archive"], request["site_packages"])}
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side must hear of it
            answer = {"error": "{}: {}".format(type(error).__name__, error)}
        print(json.dumps(answer), flush=True)


def compile_wheel(wheel, archive, site_packages):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Write the bytecode of all modules of *wheel* to *archive*, and return how many there are."""
    tag = sys.implementation.cache_tag
    count = 0
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        modules = sorted((installed_path(name), name) for name in source.namelist() if name.endswith(".py"))
        for path, name in modules:
            if not path:
                continue
            folder, _, module = path.rpartition("/")
            pyc = compile_module(source.read(name), site_packages + "/" + path)
            if pyc is None:
                continue
            cached = "{}{}__pycache__/{}.{}.pyc".format(folder, "/" if folder else "", module[:-3], tag)
            member = zipfile.ZipInfo(cached, _DATE)
            member.create_system = 3
            member.external_attr = _REGULAR
            target.writestr(member, pyc)
            count += 1
    return count


def installed_path(name):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return where a wheel's member goes below ``site-packages``; empty for what goes elsewhere."""
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return name
    scheme, _, inside = rest.partition("/")
    return inside if scheme in ("purelib", "platlib") else ""


def compile_module(source, path):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return the pyc of *source* (PEP 552, unchecked hash), or None for what doesn't compile."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, OverflowError, MemoryError):
        return None  # templates, test data, code for another Python: pip leaves them out as well
    return _code_to_hash_pyc(code, importlib.util.source_hash(source), False)


if __name__ == "__main__":
    main()
