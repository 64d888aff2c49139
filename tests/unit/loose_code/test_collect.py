"""What goes into the image of code that no package owns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.errors import PlanError, UsageError, WheelError
from imagesync.lock.lock import Target
from imagesync.loose_code.code_layer import CodeLayer, make_layer
from imagesync.loose_code.collect import collect_code
from imagesync.plan.loose_code import Code
from imagesync.scan.scan import scan
from imagesync.store.store import Store
from tests.commands import clean_environ, git
from tests.environments import LocalEnvironment, make_environment

MakeEnvironment = Callable[..., LocalEnvironment]
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> LocalEnvironment:
    return make_environment(
        tmp_path_factory.mktemp("bare") / "env", packages=["toolz"], python=sys.executable
    )


def tree(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("value = 1\n" if path.endswith(".py") else "data")
    return folder


def collect(
    local: LocalEnvironment, *paths: Path, max_size: int = 1_000_000, cache: Path | None = None
) -> Code:
    environment = scan(python=local.python, environ=clean_environ())
    shipped = [package.name for package in environment.packages]
    return collect_code(
        paths, max_size=max_size, environment=environment, platform=LINUX_AMD64, shipped=shipped, cache=cache
    )


def names(code: Code) -> list[str]:
    return [file.path for file in code.files]


def codes(code: Code) -> list[str]:
    return [finding.code for finding in code.findings]


def test_folder_is_collected_by_content_and_package_by_name(bare: LocalEnvironment, tmp_path: Path) -> None:
    lib = tree(tmp_path / "lib", "helper.py", "data/table.csv")
    package = tree(tmp_path / "stats", "__init__.py", "mean.py", "table.csv")
    tree(tmp_path, "single.py", "other.py")
    code = collect(bare, lib, package, tmp_path / "single.py")
    assert names(code) == [
        "data/table.csv",
        "helper.py",
        "stats/__init__.py",
        "stats/mean.py",
        "stats/table.csv",
        "single.py",
    ]
    assert code.modules == ("helper", "single", "stats")
    assert [path.root for path in code.paths] == [str(lib), str(tmp_path), str(tmp_path)]
    assert codes(code) == []


def test_part_of_a_package_is_refused_with_the_package_named(bare: LocalEnvironment, tmp_path: Path) -> None:
    tree(tmp_path / "outer", "__init__.py", "middle/__init__.py", "middle/inner/__init__.py")
    with pytest.raises(UsageError, match=f"--code {tmp_path / 'outer'}$"):
        collect(bare, tmp_path / "outer" / "middle" / "inner")


def test_path_without_code_is_refused(bare: LocalEnvironment, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UsageError, match="doesn't exist"):
        collect(bare, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is no module"):
        collect(bare, tmp_path / "notes.txt")
    with pytest.raises(UsageError, match="as a whole"):
        collect(bare, Path("/"))
    with pytest.raises(UsageError, match="as a whole"):
        collect(bare, Path.home())


def test_code_in_a_folder_of_secrets_is_refused(bare: LocalEnvironment, tmp_path: Path) -> None:
    tree(tmp_path / ".aws" / "plugin", "helper.py")
    (tmp_path / "linked").symlink_to(tmp_path / ".aws" / "plugin")
    (tmp_path / "linked.py").symlink_to(tmp_path / ".aws" / "plugin" / "helper.py")
    for path in (".aws/plugin", ".aws/plugin/helper.py", "linked", "linked.py"):
        with pytest.raises(UsageError, match="looks like a secret"):
            collect(bare, tmp_path / path)


def test_ignored_files_and_secrets_are_left_out(bare: LocalEnvironment, tmp_path: Path) -> None:
    tree(
        tmp_path,
        "helper.py",
        "ignored/big.bin",
        ".env",
        "keys/id_rsa",
        "tls.key",
        "note.ipynb",
        ".aws/config",
    )
    tree(tmp_path, "venv2/pyvenv.cfg", "venv2/lib/site.py", "old-1.0.dist-info/METADATA", "pkg/stale.pyc")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "deploy.pem").write_text(KEY)
    (tmp_path / "deploy_key").write_text(KEY)
    (tmp_path / "monkey").write_text("no key")
    tree(tmp_path, "service-account-prod.json", ".streamlit/secrets.toml")
    (tmp_path / ".gitignore").write_text("ignored/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-f", ".env", "helper.py", "pkg/stale.pyc", "old-1.0.dist-info/METADATA")
    code = collect(bare, tmp_path)
    assert names(code) == [".gitignore", "ca.pem", "helper.py", "monkey"]
    assert codes(code) == ["code-secret-left-out"]
    left_out = dict(code.paths[0].left_out)
    secrets = {name for name, reason in left_out.items() if "secret" in reason}
    assert secrets == {
        ".aws/config",
        ".env",
        ".streamlit/secrets.toml",
        "deploy.pem",
        "deploy_key",
        "keys/id_rsa",
        "service-account-prod.json",
        "tls.key",
    }
    assert {"note.ipynb", "venv2/lib/site.py", "pkg/stale.pyc"} < set(left_out)
    assert "ignored/big.bin" not in left_out
    assert ".env" in code.findings[0].message
    assert "3 more" in code.findings[0].message


def test_links_that_lead_out_are_left_out(bare: LocalEnvironment, tmp_path: Path) -> None:
    lib = tree(tmp_path / "lib", "helper.py", "data/deep/x.csv", ".env")
    tree(tmp_path, "outside.py")
    for link, target in {
        "alias.py": "helper.py",
        "data/shallow": "deep",
        "data/loop": "..",
        "out.py": "../outside.py",
        "passwd": "/etc/passwd",
        "config": ".env",
        "gone": "nowhere",
    }.items():
        (lib / link).symlink_to(target)
    code = collect(bare, lib)
    files = {file.path: file for file in code.files}
    assert set(files) == {"alias.py", "helper.py", "data/deep/x.csv", "data/shallow"}
    assert files["data/shallow"].link == "deep"
    assert (files["alias.py"].source, files["alias.py"].link) == (str(lib / "helper.py"), "")
    (finding,) = (finding for finding in code.findings if finding.code == "code-link-left-out")
    assert all(name in finding.message for name in ("out.py", "passwd", "config", "gone", "data/loop"))


def test_digest_covers_names_modes_and_bytes_and_no_times_or_places(
    bare: LocalEnvironment, tmp_path: Path
) -> None:
    lib = tree(tmp_path / "one" / "lib", "helper.py", "run.py")
    cache = tmp_path / "cache"
    first = collect(bare, lib, cache=cache).digest
    assert first.startswith("sha256:")
    os.utime(lib / "helper.py", (1, 1))
    assert collect(bare, lib, cache=cache).digest == first
    assert collect(bare, tree(tmp_path / "two" / "lib", "helper.py", "run.py"), cache=cache).digest == first
    seen = {first}
    for change in (
        lambda: (lib / "helper.py").write_text("value = 2\n"),
        lambda: (lib / "helper.py").rename(lib / "helped.py"),
        lambda: (lib / "run.py").chmod(0o755),
        lambda: tree(lib, "__init__.py"),
    ):
        change()
        digest = collect(bare, lib, cache=cache).digest
        assert digest not in seen
        seen.add(digest)


def test_size_limit_names_the_largest_files(bare: LocalEnvironment, tmp_path: Path) -> None:
    tree(tmp_path, "helper.py")
    (tmp_path / "large.bin").write_bytes(bytes(2_000_000))
    with pytest.raises(PlanError, match=r"2\.0 MB.*large\.bin") as caught:
        collect(bare, tmp_path)
    assert "code-max-size" in str(caught.value)
    assert collect(bare, tmp_path, max_size=3_000_000).size > 2_000_000


def test_modules_of_shipped_packages_are_left_out(environment: MakeEnvironment, tmp_path: Path) -> None:
    project = tree(tmp_path / "project", "src/orchard/__init__.py", "src/loose.py", "tools.py")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core>=3.8"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "Or-Chard"\nversion = "1.0"\ndescription = "Trees"\n'
        '[tool.flit.module]\nname = "orchard"\n'
    )
    made = environment("toolz", editable=[project])
    lib = tree(tmp_path / "lib", "toolz.py", "mine.py")
    code = collect(made, project / "src", lib, made.site_packages / "toolz")
    assert names(code) == ["loose.py", "mine.py"]
    assert sorted(codes(code)) == [
        "code-already-shipped",
        "code-already-shipped",
        "code-shadowed",
        "code-without-modules",
    ]
    shadowed = next(finding for finding in code.findings if finding.code == "code-shadowed")
    assert (shadowed.package, shadowed.path) == ("toolz", str(lib / "toolz.py"))


def test_modules_of_each_kind_of_editable_package_are_found(
    environment: MakeEnvironment, tmp_path: Path
) -> None:
    for backend, requires in (("setuptools.build_meta", "setuptools"), ("flit_core.buildapi", "flit_core")):
        name = f"tree_{requires}"
        project = tree(tmp_path / requires, f"{name}/__init__.py", "script.py")
        (project / "pyproject.toml").write_text(
            f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{backend}"\n'
            f'[project]\nname = "{name}"\nversion = "1.0"\ndescription = "x"\n'
            + (f'[tool.setuptools]\npackages = ["{name}"]\n' if requires == "setuptools" else "")
        )
        made = environment(name=f"env-{requires}", editable=[project])
        code = collect(made, project)
        assert code.modules == ("script",), requires
        assert "code-already-shipped" in codes(code)


def test_earlier_path_takes_precedence(bare: LocalEnvironment, tmp_path: Path) -> None:
    first = tree(tmp_path / "first", "helper.py", "space/one.py", "README.md")
    second = tree(tmp_path / "second", "helper.py", "space/two.py", "README.md")
    code = collect(bare, first, second)
    assert names(code) == ["README.md", "helper.py", "space/one.py", "space/two.py"]
    assert codes(code) == ["code-twice"]


def test_module_of_the_standard_library_is_a_finding(bare: LocalEnvironment, tmp_path: Path) -> None:
    code = collect(bare, tree(tmp_path, "json.py", "mine.py"))
    assert codes(code) == ["code-shadows-standard-library"]
    assert "'json'" in code.findings[0].message


def test_folder_without_modules_is_a_finding(bare: LocalEnvironment, tmp_path: Path) -> None:
    assert codes(collect(bare, tree(tmp_path, "src/pkg/mod.py", "my-script.py"))) == ["code-without-modules"]


def test_no_paths_give_no_code(bare: LocalEnvironment) -> None:
    code = collect(bare)
    assert not code
    assert code.to_dict() == {"digest": None, "files": 0, "size": 0, "modules": [], "paths": []}


def test_files_of_imagesync_are_left_out(bare: LocalEnvironment, tmp_path: Path) -> None:
    tree(tmp_path, "helper.py", "store/blobs/x", "context/.imagesync.json", "context/code/code.zip")
    assert names(collect(bare, tmp_path, cache=tmp_path / "store")) == ["helper.py"]


def test_library_for_a_newer_glibc_is_refused(bare: LocalEnvironment, tmp_path: Path) -> None:
    lib = tree(tmp_path / "lib", "helper.py")
    (lib / "fast.so").write_bytes(b"\x7fELF\0GLIBC_2.4\0GLIBC_2.36\0")
    code = collect(bare, lib)
    python = scan(python=bare.python, environ=clean_environ()).python

    def layer(glibc: int) -> CodeLayer | None:
        target = Target(LINUX_AMD64, python.version, (2, glibc))
        store = Store(tmp_path / "store")
        return make_layer(code, python=python, target=target, store=store, progress=SilentProgress())

    assert layer(36) is not None
    with pytest.raises(WheelError, match=r"fast\.so needs glibc 2\.36, and the image has 2\.31"):
        layer(31)


def test_same_code_gives_the_same_archives(bare: LocalEnvironment, tmp_path: Path) -> None:
    python = scan(python=bare.python, environ=clean_environ()).python
    target = Target(LINUX_AMD64, python.version, (2, 36))
    digests = []
    for place in ("one", "two"):
        lib = tree(tmp_path / place / "lib", "helper.py", "pkg/__init__.py", "data.csv")
        (lib / "linked").symlink_to("pkg")
        store = Store(tmp_path / place / "store")
        layer = make_layer(
            collect(bare, lib),
            python=python,
            target=target,
            store=store,
            progress=SilentProgress(),
        )
        assert layer is not None
        digests.append([file.digest for file in layer.files])
    assert digests[0] == digests[1]
    assert len(digests[0]) == 2


def test_file_that_changes_before_it_is_archived_is_an_error(bare: LocalEnvironment, tmp_path: Path) -> None:
    lib = tree(tmp_path / "lib", "helper.py")
    code = collect(bare, lib)
    (lib / "helper.py").write_text("value = 3\n")
    python = scan(python=bare.python, environ=clean_environ()).python
    target = Target(LINUX_AMD64, python.version, (2, 36))
    with pytest.raises(WheelError, match=r"helper\.py was changed"):
        make_layer(
            code, python=python, target=target, store=Store(tmp_path / "store"), progress=SilentProgress()
        )


ELF_AARCH64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(44)
ELF_X86_64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00" + bytes(44)
MACHO_ARM64 = b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01" + bytes(24)
PE_AMD64 = b"MZ" + bytes(58) + b"\x40\x00\x00\x00" + b"PE\0\0\x64\x86" + bytes(18)


@pytest.mark.parametrize(
    ("name", "content", "platform"),
    [
        ("fast.cpython-311-darwin.so", MACHO_ARM64, "macosx-arm64"),
        ("fast.cp311-win_amd64.pyd", PE_AMD64, "win-amd64"),
        ("fast.cpython-311-aarch64-linux-gnu.so", ELF_AARCH64, "linux-aarch64"),
        ("fast.so", ELF_AARCH64, "linux-aarch64"),
        ("fast.cpython-311-x86_64-linux-gnu.so", MACHO_ARM64, "macosx-arm64"),
    ],
)
def test_machine_code_of_another_platform_stays_out_and_is_named(
    bare: LocalEnvironment, tmp_path: Path, name: str, content: bytes, platform: str
) -> None:
    folder = tree(tmp_path / "lib", "slow.py")
    (folder / name).write_bytes(content)
    code = collect(bare, folder)
    assert names(code) == ["slow.py"]
    assert code.modules == ("slow",)
    (finding,) = code.findings
    assert (finding.code, finding.severity.value) == ("code-compiled", "warning")
    assert platform in finding.message
    assert finding.message.endswith(f"{name}. These modules can't be imported there.")
    assert dict(code.paths[0].left_out)[name] == f"it is machine code for {platform}"


def test_machine_code_beside_the_same_module_for_the_image_is_a_remark(
    bare: LocalEnvironment, tmp_path: Path
) -> None:
    folder = tree(tmp_path / "lib", "slow.py")
    (folder / "fast.cpython-311-darwin.so").write_bytes(MACHO_ARM64)
    (folder / "fast.cpython-311-x86_64-linux-gnu.so").write_bytes(ELF_X86_64)
    code = collect(bare, folder)
    assert names(code) == ["fast.cpython-311-x86_64-linux-gnu.so", "slow.py"]
    assert [(finding.code, finding.severity.value) for finding in code.findings] == [
        ("code-compiled", "info")
    ]
