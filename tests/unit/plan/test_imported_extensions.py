"""Which extension modules an import loads, told from sources."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from imagesync.plan.checks.imported_extensions import loaded_extensions

EXTENSION = "kiln/_fire.cpython-311-x86_64-linux-gnu.so"


def loaded(files: Mapping[str, str]) -> set[str]:
    return set(loaded_extensions(files, lambda path: files[path].encode()))


@pytest.mark.parametrize(
    "source",
    [
        "from . import _fire",
        "from ._fire import burn",
        "import kiln._fire",
        "from kiln._fire import *",
        "try:\n    from . import _fire\nexcept ImportError:\n    raise ImportError('broken') from None",
        "import sys\nif sys.platform == 'win32':\n    from . import _other\nelse:\n    from . import _fire",
        "class Kiln:\n    from ._fire import burn",
        "import importlib\nimportlib.import_module('kiln._fire')",
        "def start():\n    from . import _fire\nstart()",
    ],
)
def test_extension_that_the_import_needs_is_loaded(source: str) -> None:
    assert loaded({"kiln/__init__.py": source, EXTENSION: ""}) == {EXTENSION}


@pytest.mark.parametrize(
    "source",
    [
        "",
        "import numpy",
        "try:\n    from . import _fire\nexcept ImportError:\n    _fire = None",
        "def burn():\n    from ._fire import burn",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import _fire",
        "import sys\nif sys.platform == 'win32':\n    from . import _fire",
        "this is not Python",
    ],
)
def test_extension_that_the_import_can_do_without_is_not(source: str) -> None:
    assert loaded({"kiln/__init__.py": source, EXTENSION: ""}) == set()


def test_imports_are_followed_through_the_modules_of_the_package() -> None:
    files = {
        "kiln/__init__.py": "from .api import burn",
        "kiln/api.py": "from kiln.deep.core import burn",
        "kiln/deep/__init__.py": "",
        "kiln/deep/core.py": "from .._fire import burn",
        "kiln/unused.py": "from . import _unused",
        EXTENSION: "",
        "kiln/_unused.so": "",
    }
    assert loaded(files) == {EXTENSION}


def test_package_that_imports_its_extension_by_a_bare_name_as_cv2_does() -> None:
    source = "def bootstrap():\n    import importlib\n    importlib.import_module('cv2')\nbootstrap()\n"
    assert loaded({"cv2/__init__.py": source, "cv2/cv2.abi3.so": ""}) == {"cv2/cv2.abi3.so"}


def test_extension_at_the_top_is_the_import_itself() -> None:
    assert loaded({"_cffi_backend.so": "", "cffi.libs/libffi-1.so.8": ""}) == {"_cffi_backend.so"}


def test_plugin_in_a_folder_without_modules_is_not_loaded() -> None:
    assert (
        loaded({"PyQt5/Qt5/plugins/imageformats/libqgif.so": "", "PyQt5/Qt5/lib/libQt5Core.so.5": ""})
        == set()
    )
