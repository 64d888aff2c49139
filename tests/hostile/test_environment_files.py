"""Whatever an environment's files hold: a scan with findings, or an error of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesync.errors import ImagesyncError
from imagesync.plan.make_plan import make_plan
from imagesync.scan.distributions.metadata import installed_files
from imagesync.scan.environment import Environment
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from tests.hostile.mutations import mutated, other_values

SITE = "lib/python3.11/site-packages"
INFO = f"{SITE}/demo-1.0.dist-info"
DIRECT_URL = json.dumps(
    {
        "url": "https://git.example/a/b.git",
        "vcs_info": {"vcs": "git", "commit_id": "a" * 40, "requested_revision": "main"},
        "subdirectory": "python",
    }
)
EDITABLE = json.dumps({"url": "file:///home/me/demo", "dir_info": {"editable": True}})
RECORD = json.dumps(
    {
        "name": "elder",
        "version": "1.0",
        "build": "py_0",
        "build_number": 0,
        "channel": "https://conda.example/main/noarch",
        "url": "https://conda.example/main/noarch/elder-1.0-py_0.conda",
        "fn": "elder-1.0-py_0.conda",
        "subdir": "noarch",
        "noarch": "python",
        "depends": ["python >=3.11"],
        "constrains": [],
        "md5": "0" * 32,
        "sha256": "0" * 64,
        "size": 5,
        "files": ["lib/python3.11/site-packages/elder.py"],
        "requested_spec": "elder",
        "requested_specs": ["elder"],
        "extracted_package_dir": "/opt/pkgs/elder",
        "paths_data": {
            "paths_version": 1,
            "paths": [
                {
                    "_path": "lib/python3.11/site-packages/elder.py",
                    "path_type": "hardlink",
                    "sha256": "0" * 64,
                    "sha256_in_prefix": "0" * 64,
                    "size_in_bytes": 5,
                    "file_mode": "text",
                    "prefix_placeholder": "/opt/placeholder",
                }
            ],
        },
    }
)
# Each file, with its usual content; JSON is changed by values as well.
FILES: dict[str, tuple[str, ...]] = {
    f"{INFO}/METADATA": (
        "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Dist: a>=1; extra == 'x'\n"
        "Requires-Python: >=3.8\nProvides-Extra: x\nSummary: <b>\n\ntext",
    ),
    f"{INFO}/RECORD": (
        "demo.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n../../../bin/demo,,\n",
    ),
    f"{INFO}/direct_url.json": (DIRECT_URL, EDITABLE),
    f"{INFO}/entry_points.txt": ("[console_scripts]\ndemo = demo:main [x]\n",),
    f"{INFO}/INSTALLER": ("pip\n",),
    f"{INFO}/WHEEL": ("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",),
    f"{INFO}/top_level.txt": ("demo\n",),
    f"{SITE}/x.pth": ("/home/me/demo/src\nimport os; os.x\n./y\n",),
    f"{SITE}/__editable__.demo-1.0.pth": ("/home/me/demo/src\n",),
    f"{SITE}/demo.egg-link": ("/home/me/demo\n.",),
    f"{SITE}/easy-install.pth": ("./some.egg\n/home/me/demo\n",),
    f"{SITE}/old-1.0.egg-info": ("Metadata-Version: 1.0\nName: old\nVersion: 1.0\n",),
    f"{SITE}/legacy-1.0.egg-info/PKG-INFO": ("Metadata-Version: 1.0\nName: legacy\nVersion: 1.0\n",),
    f"{SITE}/legacy-1.0.egg-info/installed-files.txt": ("../legacy.py\nPKG-INFO\n",),
    f"{SITE}/legacy-1.0.egg-info/requires.txt": ("a>=1\n\n[x:python_version<'3']\nb\n",),
    "pyvenv.cfg": ("home = /usr/bin\nversion = 3.11.2\ninclude-system-site-packages = false\n",),
    "conda-meta/elder-1.0-py_0.json": (RECORD,),
    "conda-meta/history": (
        "==> 2026-01-01 00:00:00 <==\n# cmd: conda install elder\n+main::elder-1.0-py_0\n",
    ),
    "conda-meta/state": ('{"env_vars": {"A": "b"}}',),
    "conda-meta/pinned": ("elder ==1.0\n",),
    ".condarc": ("channels: [main, conda-forge]\nssl_verify: true\nproxy_servers: {https: x}\n",),
}
NEEDED = ("pyvenv.cfg", "conda-meta/history", f"{INFO}/METADATA", f"{INFO}/RECORD", f"{SITE}/demo.py")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "env"
    for name, contents in FILES.items():
        if not name.startswith("conda-meta/") and name != ".condarc":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(contents[0])
    (folder / SITE / "demo.py").write_text("")
    return folder


def read(environment: Environment) -> None:
    """Read what a scan leaves to later stages, plan, and print as JSON."""
    for package in environment.packages:
        installed_files(package)
    plan = make_plan(environment, settings=Settings(profile="none"))
    json.dumps(environment.to_dict()).encode()
    json.dumps(plan.to_dict()).encode()
    for value in (environment, plan):
        assert "<script" not in value._repr_html_()


def strategy(contents: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    changed = mutated(tuple(content.encode() for content in contents))
    documents = [other_values(content) for content in contents if content.startswith("{")]
    return st.one_of(changed, *documents)


@pytest.mark.parametrize("name", FILES)
def test_file_of_an_environment_is_read_or_named(
    prefix: Path, tmp_path: Path, tried: Callable[[str], None], name: str
) -> None:
    folder = tmp_path / "env"
    shutil.copytree(prefix, folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if name.startswith("conda-meta/"):
        (folder / "conda-meta" / "history").touch()
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    @settings(settings.get_profile("hostile"))
    @given(strategy(FILES[name]))
    def try_one(content: bytes) -> None:
        tried(f"environment: {Path(name).name if 'legacy' not in name else 'egg-info/' + Path(name).name}")
        (folder / name).write_bytes(content)
        try:
            read(scan(prefix=folder, environ=environ))
        except ImagesyncError as error:
            assert error.message  # noqa: PT017  any error of ours will do

    try_one()


DEEP = b"[" * 200_000
FOUND = [
    (f"{INFO}/METADATA", b"Name: demo\nVersion: " + b"9" * 100_000),
    (f"{INFO}/METADATA", b"Name: demo\nVersion: 1.0\nRequires-Dist: a (" + b"(" * 50_000),
    (f"{INFO}/RECORD", b"demo.py\0,sha256=x,1\n\0\n"),
    (f"{INFO}/RECORD", b"demo.py,sha256=x," + b"9" * 100_000),
    (f"{INFO}/direct_url.json", DEEP),
    (f"{INFO}/direct_url.json", b'{"url": "https://[::1", "archive_info": {}}'),
    ("conda-meta/elder-1.0-py_0.json", DEEP),
    ("conda-meta/elder-1.0-py_0.json", RECORD.replace('"1.0"', '"' + "9" * 100_000 + '"').encode()),
    ("conda-meta/elder-1.0-py_0.json", b" " * (200 << 20)),
    ("conda-meta/state", DEEP),
    ("pyvenv.cfg", b"version = " + b"9" * 100_000),
    ("pyvenv.cfg", b"home =\0/usr/bin\n"),
    (f"{SITE}/x.pth", b"/x\0y\n" * 10),
]


@pytest.mark.parametrize(("name", "content"), FOUND, ids=[f"{number}" for number in range(len(FOUND))])
def test_fault_that_was_found_once_stays_mended(
    prefix: Path, tmp_path: Path, tried: Callable[[str], None], name: str, content: bytes
) -> None:
    folder = tmp_path / "env"
    shutil.copytree(prefix, folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "conda-meta").mkdir(exist_ok=True)
    (folder / "conda-meta" / "history").touch()
    (folder / name).write_bytes(content)
    tried("environment: found faults")
    try:
        read(scan(prefix=folder, environ={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}))
    except ImagesyncError as error:
        assert error.message  # noqa: PT017  any error of ours will do
