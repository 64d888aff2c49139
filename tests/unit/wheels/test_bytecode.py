from __future__ import annotations

import importlib.util
import io
import marshal
import os
import select
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import Progress, SilentProgress
from imagesync.lock.lock import Target
from imagesync.scan.environment import Interpreter
from imagesync.standalone.programs import program_text
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.bytecode import compile_bytecode, compiled_ahead
from imagesync.wheels.compilers import Worker, open_workers, program_version
from imagesync.wheels.wheel_compilation import join_archives
from tests.environments import feature_version
from tests.host_platform import NEEDS_OWN_SYSTEM
from tests.indexes.wheels import make_wheel
from tests.progress import RecordedLines

SITE = PurePosixPath("/opt/env/lib/site-packages")
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
PYENV = Path.home() / ".pyenv/versions"
FILES = {
    "pkg/__init__.py": b"import traceback\nVALUE = ('a', 'b', 1000000, frozenset({'x'}))\n",
    "pkg/sub/mod.py": b"def where():\n    return where.__code__.co_filename\n",
    "top.py": b"# -*- coding: latin-1 -*-\nS = '\xe9'\n",
    "pkg/template.py": b"class {{ name }}:\n",
    "pkg/nul.py": b"a = 1\0\n",
    "pkg/deep.py": b"x = " + b"(" * 3000 + b")" * 3000 + b"\n",
    "pkg/old.py": b"print 'python 2'\n",
    "pkg/warns.py": b"x = '\\d'\nassert (x, 'always true')\n",
    "pkg/data.txt": b"no module",
    "demo-1.0.data/purelib/other/a.py": b"A = 1\n",
    "demo-1.0.data/platlib/other/b.py": b"B = 1\n",
    "demo-1.0.data/data/share/example.py": b"C = 1\n",
    "demo-1.0.data/scripts/run.py": b"#!python\n",
}
COMPILED = {"pkg/__init__", "pkg/sub/mod", "top", "pkg/warns", "other/a", "other/b"}


def interpreter(executable: str, minor: str = MINOR, implementation: str = "cpython") -> Interpreter:
    return Interpreter(implementation, f"{minor}.0", "linux-x86_64", "", executable, "", "")


def compile_with(
    store: Store,
    *files: Mapping[str, bytes],
    executable: str = sys.executable,
    minor: str = MINOR,
    wheels: Iterator[StoredFile] | None = None,
    progress: Progress | None = None,
) -> tuple[StoredFile, ...]:
    stored = [
        store.add([make_wheel("demo", "1.0", files=f)[1]], filename="demo-1.0-py3-none-any.whl")
        for f in files
    ]
    return compile_bytecode(
        wheels or stored,
        python=interpreter(executable, minor),
        target=Target(LINUX_AMD64, f"{minor}.0", (2, 36)),
        site_packages=SITE,
        store=store,
        progress=progress or SilentProgress(),
    )


def names(archive: StoredFile) -> list[str]:
    with zipfile.ZipFile(archive.path) as opened:
        return opened.namelist()


def test_bytecode_has_the_modules_of_a_wheel_alone(store: Store) -> None:
    (archive,) = compile_with(store, FILES)
    assert archive.filename == "demo-1.0-py3-none-any.pyc.zip"
    tag = sys.implementation.cache_tag
    expected = {
        f"{folder}{'/' if folder else ''}__pycache__/{name}.{tag}.pyc"
        for folder, _, name in (path.rpartition("/") for path in COMPILED)
    }
    assert set(names(archive)) == expected


def test_python_loads_bytecode_without_checking_sources(store: Store, tmp_path: Path) -> None:
    (archive,) = compile_with(store, FILES)
    with zipfile.ZipFile(archive.path) as opened:
        opened.extractall(tmp_path / "site")
    for name in ("pkg/__init__.py", "pkg/sub/mod.py"):
        (tmp_path / "site" / name).write_text("raise SystemExit('the source was read')")
    code = "import pkg, pkg.sub.mod; print(pkg.VALUE[2], pkg.sub.mod.where.__name__)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1000000 where\n"


def test_bytecode_has_the_hash_of_its_source(store: Store) -> None:
    (archive,) = compile_with(store, {"top.py": b"A = 1\n"})
    with zipfile.ZipFile(archive.path) as opened:
        pyc = opened.read(opened.namelist()[0])
    assert pyc[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(pyc[4:8], "little") == 0b01  # PEP 552: hash-based, not checked
    assert pyc[8:16] == importlib.util.source_hash(b"A = 1\n")


def test_tracebacks_have_the_path_in_the_image(store: Store) -> None:
    (archive,) = compile_with(store, {"pkg/sub/mod.py": b"A = 1\n"})
    with zipfile.ZipFile(archive.path) as opened:
        code = marshal.loads(opened.read(opened.namelist()[0])[16:])
    assert code.co_filename == f"{SITE}/pkg/sub/mod.py"


def test_bytecode_is_the_same_whatever_else_was_interned() -> None:
    program = (
        "import sys\n"
        "for text in sys.argv[1:]:\n"
        "    sys.intern(text)\n"
        "from imagesync.standalone.host.compile_worker import compile_module\n"
        "print(compile_module(b'A = \"[\", \"]\"', 'a.py').hex())\n"
    )

    def bytecode(*interned: str) -> str:
        command = [sys.executable, "-c", program, *interned]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout

    assert bytecode("[", "]") == bytecode()


def test_bytecode_of_a_wheel_is_compiled_once(store: Store, tmp_path: Path) -> None:
    first = compile_with(store, FILES)
    # An interpreter that doesn't start: whatever comes back was kept.
    broken = tmp_path / "python"
    broken.touch()
    assert compile_with(store, FILES, executable=str(broken)) == first


def test_archives_have_the_order_of_the_wheels(tmp_path: Path) -> None:
    wheels = [
        {f"m{i}.py": f"from m import v{i}\nX = ('shared', {i} * 2.5)\n".encode() * i} for i in range(1, 9)
    ]
    forward = compile_with(Store(tmp_path / "a"), *wheels)
    backward = compile_with(Store(tmp_path / "b"), *reversed(wheels))
    assert [names(archive)[0][:14] for archive in forward] == [f"__pycache__/m{i}" for i in range(1, 9)]
    assert [archive.digest for archive in forward] == [archive.digest for archive in reversed(backward)]


def test_wheels_are_compiled_as_an_iterator_yields_them(store: Store) -> None:
    def arriving() -> Iterator[StoredFile]:
        for i in range(3):
            filename, content = make_wheel(f"p{i}", "1.0")
            yield store.add([content], filename=filename)

    archives = compile_with(store, wheels=arriving())
    assert [archive.filename for archive in archives] == [f"p{i}-1.0-py3-none-any.pyc.zip" for i in range(3)]


def compiling_ahead(
    store: Store, python: Interpreter
) -> AbstractContextManager[Callable[[StoredFile], None]]:
    return compiled_ahead(
        python=python,
        target=Target(LINUX_AMD64, f"{MINOR}.0", (2, 36)),
        site_packages=SITE,
        store=store,
        progress=SilentProgress(),
    )


def test_wheel_is_compiled_while_others_arrive(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = store.add([make_wheel("demo", "1.0", files=FILES)[1]], filename="demo-1.0-py3-none-any.whl")
    compiled, remember = threading.Event(), Store.remember

    def remembering(self: Store, key: str, stored: StoredFile) -> None:
        remember(self, key, stored)
        compiled.set()

    monkeypatch.setattr(Store, "remember", remembering)
    with compiling_ahead(store, interpreter(sys.executable)) as compile_wheel:
        compile_wheel(wheel)
        assert compiled.wait(60)
    compiled.clear()
    (archive,) = compile_with(store, FILES)
    assert not compiled.is_set()
    assert archive.filename == "demo-1.0-py3-none-any.pyc.zip"


def test_what_has_arrived_is_compiled_at_the_end(store: Store) -> None:
    wheel = store.add([make_wheel("demo", "1.0", files=FILES)[1]], filename="demo-1.0-py3-none-any.whl")
    with compiling_ahead(store, interpreter(sys.executable)) as compile_wheel:
        compile_wheel(wheel)
    stored = set(store.root.rglob("*"))
    compile_with(store, FILES)
    assert not {path for path in store.root.rglob("*") if path.is_file()} - stored


def test_failing_compiler_is_an_error_where_its_bytecode_is_wanted(store: Store) -> None:
    wheel = store.add([make_wheel("demo", "1.0", files=FILES)[1]], filename="demo-1.0-py3-none-any.whl")
    with compiling_ahead(store, interpreter("/nowhere/python")) as compile_wheel:
        compile_wheel(wheel)


def test_all_that_has_arrived_is_compiled_the_largest_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagesync.wheels.bytecode._worker_count", lambda: 1)
    lines = {"first": 1, "small": 10, "large": 3000, "medium": 200}
    wheels = [
        store.add([make_wheel(name, "1.0", files={f"{name}.py": b"f(1)\n" * count})[1]], filename=name)
        for name, count in lines.items()
    ]
    compiled: list[str] = []
    has_begun, have_arrived = threading.Event(), threading.Event()

    def arriving() -> Iterator[StoredFile]:
        yield wheels[0]
        assert has_begun.wait(60)
        yield from wheels[1:]
        have_arrived.set()

    def on_compiled(wheel: StoredFile, _: StoredFile) -> None:
        compiled.append(wheel.filename)
        has_begun.set()
        assert have_arrived.wait(60)

    compile_bytecode(
        arriving(),
        python=interpreter(sys.executable),
        target=Target(LINUX_AMD64, f"{MINOR}.0", (2, 36)),
        site_packages=SITE,
        store=store,
        progress=SilentProgress(),
        on_compiled=on_compiled,
    )
    assert compiled == ["first", "large", "medium", "small"]


def test_bytecode_depends_on_the_path_in_the_image(store: Store) -> None:
    filename, content = make_wheel("demo", "1.0")
    wheel = store.add([content], filename=filename)
    made = [
        compile_bytecode(
            [wheel],
            python=interpreter(sys.executable),
            target=Target(LINUX_AMD64, f"{MINOR}.0", (2, 36)),
            site_packages=PurePosixPath(place),
            store=store,
            progress=SilentProgress(),
        )[0].digest
        for place in ("/a", "/b")
    ]
    assert made[0] != made[1]


def test_bytecode_is_that_of_the_compiler_whichever_came_first(store: Store) -> None:
    wheel = store.add([make_wheel("demo", "1.0", files=FILES)[1]], filename="demo-1.0-py3-none-any.whl")
    target = Target(LINUX_AMD64, f"{MINOR}.0", (2, 36))

    def compiled(version: str) -> list[str]:
        progress = RecordedLines()
        compile_bytecode(
            [wheel],
            python=replace(interpreter(sys.executable), version=version),
            target=target,
            site_packages=SITE,
            store=store,
            progress=progress,
        )
        return [path.name for path in (store.root / "derived").iterdir()]

    first = compiled(f"{MINOR}.1")
    assert len(compiled(f"{MINOR}.2")) == 2 * len(first)
    assert len(compiled(f"{MINOR}.1")) == 2 * len(first)


def test_dying_interpreter_only_loses_its_wheel(store: Store, tmp_path: Path) -> None:
    dying = tmp_path / "python"
    # It ends on the wheel whose path it was told to fear, as a crash in the compiler would end it.
    fatal = store.add([make_wheel("fatal", "1.0")[1]], filename="fatal-1.0-py3-none-any.whl")
    good = store.add([make_wheel("good", "1.0")[1]], filename="good-1.0-py3-none-any.whl")
    dying.write_text(
        f"#!{sys.executable} -IS\n"
        "import sys\n"
        "class Input:\n"
        "    def __iter__(self):\n"
        "        for line in sys.__stdin__:\n"
        f"            if {fatal.path.name!r} in line: raise SystemExit(139)\n"
        "            yield line\n"
        "sys.stdin = Input()\n"
        "exec(sys.argv[-2], {'__name__': '__main__'})\n"
    )
    dying.chmod(0o755)
    made = compile_with(store, executable=str(dying), wheels=iter([fatal, good, fatal]))
    assert [archive.filename for archive in made] == ["good-1.0-py3-none-any.pyc.zip"]


@pytest.mark.parametrize("minor", ["3.8", "3.10", "3.11", "3.12", "3.13"])
def test_compiler_is_an_interpreter_of_the_same_feature_version(tmp_path: Path, minor: str) -> None:
    executable = next((p / "bin/python" for p in sorted(PYENV.glob(f"{minor}.*"))), None)
    if executable is None or feature_version(executable) != minor:
        pytest.skip(f"no CPython {minor} on this machine")
    first = compile_with(Store(tmp_path / "a"), FILES, executable=str(executable), minor=minor)
    second = compile_with(Store(tmp_path / "b"), FILES, executable=str(executable), minor=minor)
    assert len(names(first[0])) >= len(COMPILED)
    assert first[0].digest == second[0].digest
    with zipfile.ZipFile(io.BytesIO(first[0].path.read_bytes())) as opened:
        opened.extractall(tmp_path / "site")
    (tmp_path / "site/top.py").write_text("raise SystemExit(1)")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import top; print(ascii(top.S))"
    assert (
        subprocess.run([executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
        == "'\\xe9'\n"
    )


def test_no_bytecode_without_an_interpreter_of_that_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert compile_with(store, FILES, executable="", minor="3.99") == ()


@NEEDS_OWN_SYSTEM
def test_interpreter_that_does_not_start_is_passed_over(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(folder: str, command: str) -> str:
        path = tmp_path / folder / f"python{MINOR}"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
        return os.fspath(path.parent)

    # As a shim of pyenv's for a version that isn't active; another version by that name; and one that starts.
    shim = script("shims", "exit 127")
    other = script("other", "echo CPython 2.7.18")
    good = script("bin", f'exec {sys.executable} "$@"')
    monkeypatch.setattr("imagesync.wheels.compilers._running_minor", lambda: "another")
    monkeypatch.setenv("PATH", os.pathsep.join((shim, other, good)))
    (archive,) = compile_with(store, FILES, executable="")
    assert len(names(archive)) == len(COMPILED)
    monkeypatch.setenv("PATH", os.pathsep.join((shim, other)))
    assert compile_with(store, FILES, executable="") == ()


def test_module_that_is_too_large_is_left_out_and_named(store: Store) -> None:
    large = b"x = 1\n" * (3 << 20)
    progress = RecordedLines()
    (archive,) = compile_with(store, {"pkg/large.py": large, "pkg/small.py": b""}, progress=progress)
    assert [name for name in names(archive) if "large" in name or "small" in name] == [
        f"pkg/__pycache__/small.{sys.implementation.cache_tag}.pyc"
    ]
    assert [line for line in progress.lines if "pkg/large.py is too large" in line]


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux")
@pytest.mark.parametrize(
    ("limit", "lower", "said"),
    [("4 << 30", "150 << 20", "pkg/heavy.py is too large"), ("120", "0.1", "a module took too long")],
)
def test_module_that_takes_too_much_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch, limit: str, lower: str, said: str
) -> None:
    script = program_text("host.compile_worker")
    assert f" = {limit}\n" in script or f" = {limit}  #" in script
    lowered = script.replace(f" = {limit}", f" = {lower}", 1)
    monkeypatch.setattr("imagesync.wheels.compilers.program_text", lambda _: lowered)
    heavy = b"x = [" + b"0," * (1 << 19) + b"]\n"  # 1 MB takes 0.2 GB and some 0.5 s
    progress = RecordedLines()
    archives = compile_with(store, {"pkg/heavy.py": heavy, "pkg/small.py": b""}, progress=progress)
    assert [line for line in progress.lines if said in line], progress.lines
    small = f"pkg/__pycache__/small.{sys.implementation.cache_tag}.pyc"
    # The process ends with a module that takes too long, and its wheel has no bytecode.
    assert [[name for name in names(archive) if "pkg" in name] for archive in archives] == (
        [[small]] if "large" in said else []
    )


# A compiler that is busy reads no input, and runs no thread of its own.
BUSY_PARENT = """
import os, subprocess, sys, time
from imagesync.standalone.programs import program_text
script = program_text("host.compile_worker")
script = script.replace("for line in sys.stdin", "while True: pass\\n    for line in sys.stdin")
worker = subprocess.Popen([sys.executable, "-c", script, str(os.getpid())], stdout=subprocess.PIPE)
worker.stdout.readline()
print(worker.pid, flush=True)
time.sleep(60)
"""


def test_bytecode_depends_on_the_program_where_marshal_shows_it() -> None:
    assert program_version("3.10") != ""
    assert program_version("3.11") == program_version("3.14") == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux")
def test_busy_worker_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", BUSY_PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    descriptor = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert select.select([descriptor], [], [], 10)[0] == [descriptor]
    os.close(descriptor)


def test_modules_of_another_version_are_compiled_only_where_their_text_differs(tmp_path: Path) -> None:
    wheels = []
    for version, changed in (("1.0", b"V = 1\n"), ("2.0", b"V = 2\n")):
        files = {"pkg/same.py": b"def f():\n    return __file__\n", "pkg/version.py": changed}
        wheel = tmp_path / f"demo-{version}-py3-none-any.whl"
        wheel.write_bytes(make_wheel("demo", version, files=files)[1])
        wheels.append(wheel)
    first, second, anew = (tmp_path / name for name in ("first", "second", "anew"))
    with open_workers(sys.executable) as workers, workers.one() as worker:
        worker.compile(wheels[0], first, SITE, converts=False)
        answer = worker.compile(wheels[1], second, SITE, converts=False, earlier=(wheels[0], first))
        worker.compile(wheels[1], anew, SITE, converts=False)
    assert (answer["modules"], answer["reused"]) == (2, 1)
    assert second.read_bytes() == anew.read_bytes()


def test_removed_archive_of_another_version_is_done_without(tmp_path: Path) -> None:
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    wheel.write_bytes(make_wheel("demo", "1.0", files={"demo.py": b"V = 1\n"})[1])
    gone = (tmp_path / "gone.whl", tmp_path / "gone.zip")
    with open_workers(sys.executable) as workers, workers.one() as worker:
        answer = worker.compile(wheel, tmp_path / "archive", SITE, converts=False, earlier=gone)
    assert (answer["modules"], answer["reused"]) == (1, 0)


def test_wheels_of_one_project_are_compiled_with_the_one_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = []
    compile_wheel = Worker.compile

    def compile_and_record(self: Worker, *arguments: Any, **options: Any) -> dict[str, Any]:
        earlier.append(options["earlier"])
        return compile_wheel(self, *arguments, **options)

    monkeypatch.setattr(Worker, "compile", compile_and_record)
    (first,) = compile_with(store, {"demo.py": b"V = 1\n"})
    compile_with(store, {"demo.py": b"V = 2\n"})
    assert [pair and pair[1] for pair in earlier] == [None, first.path]


def test_parts_of_a_wheel_are_the_same_archive_as_the_whole(tmp_path: Path) -> None:
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    files = {**FILES, **{f"many/m{number}.py": b"V = 1\n" * number for number in range(40)}}
    wheel.write_bytes(make_wheel("demo", "1.0", files=files)[1])
    whole, joined = tmp_path / "whole", tmp_path / "joined"
    parts = [tmp_path / f"part{number}" for number in range(3)]
    with open_workers(sys.executable) as workers, workers.one() as worker:
        worker.compile(wheel, whole, SITE, converts=False)
        answers = [
            worker.compile(wheel, path, SITE, converts=False, part=number, parts=len(parts))
            for number, path in enumerate(parts)
        ]
    assert all(answer["modules"] for answer in answers)
    join_archives(parts, joined)
    assert joined.read_bytes() == whole.read_bytes()


def test_large_wheel_is_compiled_by_several_workers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"m{number}.py": b"V = 1\n" for number in range(10)}
    (whole,) = compile_with(Store(store.root / "other"), files)
    asked = []
    compile_part = Worker.compile

    def compile_and_record(self: Worker, *arguments: Any, **options: Any) -> dict[str, Any]:
        asked.append((options["part"], options["parts"]))
        return compile_part(self, *arguments, **options)

    monkeypatch.setattr(Worker, "compile", compile_and_record)
    monkeypatch.setattr("imagesync.wheels.wheel_compilation._PART", 500)
    (archive,) = compile_with(store, files)
    assert archive.digest == whole.digest
    assert len(asked) > 1
    assert sorted(asked) == [(part, len(asked)) for part in range(len(asked))]


@pytest.mark.parametrize("parts", [1, 4])
def test_damaged_wheel_has_no_bytecode_and_is_named_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    damaged = store.add([b"no archive" * parts], filename="demo-1.0-py3-none-any.whl")
    monkeypatch.setattr("imagesync.wheels.wheel_compilation._PART", 1 + damaged.size // parts)
    progress = RecordedLines()
    assert compile_with(store, wheels=iter([damaged]), progress=progress) == ()
    assert len([line for line in progress.lines if "compiling it failed here" in line]) == 1
