"""The shipped levels: how closely packages in the image must match the local ones. Data only.

Each level has canonical names or patterns with ``*``, and for each the reason that the user is shown. A name
takes precedence over a pattern. Packages without an entry are "compatible". Critical packages are in
``profiles``. Users override any entry with ``[tool.imagesync.levels]``.
"""

from __future__ import annotations

from typing import Final

LEVELS: Final[dict[str, dict[str, str]]] = {
    "exact": {
        # Packages that Dask's version check compares (optional_packages of distributed/versions.py), and
        # packages whose data is sent between client and workers: pickled arrays and frames, Arrow messages,
        # Parquet, compressed frames.
        "numpy": "Arrays are pickled between your machine and the workers, and their format changes"
        " between releases.",
        "pandas": "Data frames are pickled between your machine and the workers, and their internals"
        " change between releases.",
        "pyarrow": "Arrow data and Parquet files pass between your machine and the workers, and must be"
        " read as they were written.",
        "polars": "Data frames are pickled between your machine and the workers, and their internals"
        " change between releases.",
        "blosc": "What one side compresses, the other must be able to decompress.",
        "blosc2": "What one side compresses, the other must be able to decompress.",
        "brotli": "What one side compresses, the other must be able to decompress.",
        "cramjam": "What one side compresses, the other must be able to decompress.",
        "lz4": "What one side compresses, the other must be able to decompress; Dask compares its version.",
        "numcodecs": "What one side compresses, the other must be able to decompress.",
        "python-snappy": "What one side compresses, the other must be able to decompress.",
        "zstandard": "What one side compresses, the other must be able to decompress.",
        # Their pickles check the version when they are loaded, or are only guaranteed within one version.
        "dill": "Functions pickled with it are promised to load only with the same version.",
        "scikit-learn": "Fitted models are pickled, and load reliably only with the version that wrote them.",
        # Compiled kernels and extension types are tied to one another's binary interface.
        "llvmlite": "numba works with exactly one release of it.",
        "numba": "Compiled functions are pickled between your machine and the workers.",
        "torch": "Models and tensors are pickled between your machine and the workers, and its add-ons"
        " are built against one release.",
    },
    "ignore": {
        "imagesync": "It makes the image and has no part in it.",
        "pip": "The image is complete when it is built, and its process can't install anything, so pip"
        " has no use there.",
    },
    "ignore-unless-requested": {
        "setuptools": "It builds packages, and the image gets them built.",
        "wheel": "It builds packages, and the image gets them built.",
    },
    "platform-only": {
        # Distributions for Windows or macOS only. The conda packages have neither linux-64 nor noarch builds.
        "appnope": "It exists for macOS only.",
        "cctools-osx-*": "It is of the compiler for macOS.",
        "clang-osx-*": "It is the compiler for macOS.",
        "clangxx-osx-*": "It is the compiler for macOS.",
        "compiler-rt-osx-*": "It is of the compiler for macOS.",
        "gfortran-osx-*": "It is the compiler for macOS.",
        "ld64-osx-*": "It is the linker for macOS.",
        "libcxx": "It is the C++ runtime of macOS.",
        "python.app": "It exists for macOS only.",
        "sigtool": "It signs programs of macOS.",
        "tapi": "It is of the linker for macOS.",
        "pyobjc": "It exists for macOS only.",
        "pyobjc-*": "It exists for macOS only.",
        "rumps": "It exists for macOS only.",
        "tensorflow-macos": "It exists for macOS only.",
        "tensorflow-metal": "It exists for macOS only.",
        "comtypes": "It exists for Windows only.",
        "console-shortcut": "It makes entries of the start menu, on the user's desktop only.",
        "icc-rt": "It is the runtime of a compiler for Windows.",
        "m2-*": "It exists for Windows only.",
        "m2w64-*": "It exists for Windows only.",
        "menuinst": "It makes entries of the start menu, on the user's desktop only.",
        "msys2-*": "It exists for Windows only.",
        "powershell-shortcut": "It makes entries of the start menu, on the user's desktop only.",
        "pthreads-win32": "It exists for Windows only.",
        "pyreadline": "It exists for Windows only.",
        "pyreadline3": "It exists for Windows only.",
        "pywin32": "It exists for Windows only.",
        "pywin32-*": "It exists for Windows only.",
        "pywinpty": "It exists for Windows only.",
        "tensorflow-intel": "It exists for Windows only.",
        "ucrt": "It is the C runtime of Windows.",
        "vc": "It is the C runtime of Windows.",
        "vc14-*": "It is the C runtime of Windows.",
        "vcomp14": "It is the OpenMP runtime of Windows.",
        "vs2015-runtime": "It is the C runtime of Windows.",
        "vs*-win-64": "It is the compiler for Windows.",
        "win32-setctime": "It exists for Windows only.",
        "win-inet-pton": "It exists for Windows only.",
        "win-unicode-console": "It exists for Windows only.",
        "winrt-*": "It exists for Windows only.",
        "wmi": "It exists for Windows only.",
    },
}
