"""``python -m benchmarks.max_layers``: the table of ``max-layers`` in docs/builders.md, measured here.

Sixteen environments of the same packages, some of them in older versions and some left out, become images
with at most 12, 40 and 100 layers. Counters are exact; seconds are those of this machine, and of its load.

Needs PyPI (150 MB of wheels, once), ``docker-registry`` and ``skopeo``. With ``--engine`` an image is loaded
into the container engine, too, and a container of it created.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from packaging.utils import parse_wheel_filename

from benchmarks.scripts import run_script
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.image.layers.base_contents import BaseContents, read_base
from imagesync.image.layers.compression import compression_of
from imagesync.image.layers.environment import EnvironmentFiles, write_environment
from imagesync.image.layers.layer import Layer
from imagesync.image.layers.wheel_parts import WheelPart, bytecode_by_wheel
from imagesync.image_layout import site_packages
from imagesync.lock.lock import Target
from imagesync.registry.config import ContainerConfig, ImageConfig
from imagesync.registry.manifest import Descriptor
from imagesync.registry.oci_image import OCIImage, compose_image
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import Pushed, push_image
from imagesync.registry.repository import Repository
from imagesync.scan.environment import Interpreter
from imagesync.store.store import Store
from imagesync.wheels.bytecode import compile_bytecode
from tests.integration.local_registry import LocalRegistry
from tests.integration.oci_environment import python_base
from tests.integration.registry_proxy import RegistryProxy

PACKAGES = ("numpy", "pandas", "scipy", "pyarrow", "scikit-learn", "dask", "distributed")
# Light ones, of which some environments have the version before.
OLDER = (
    *("click==8.1.7", "cloudpickle==3.0.0", "fsspec==2024.6.1", "joblib==1.4.2", "msgpack==1.0.8"),
    *("packaging==24.1", "psutil==6.0.0", "tornado==6.4.1", "toolz==0.12.1", "threadpoolctl==3.5.0"),
)
# Without which an environment may be.
OPTIONAL = ("pyarrow", "scikit-learn", "scipy", "joblib", "threadpoolctl", "psutil", "urllib3", "jinja2")
ENVIRONMENTS = 16
MINOR = f"3.{sys.version_info.minor}"


@dataclass(frozen=True)
class Row:
    """What was measured for one value of ``max-layers``."""

    max_layers: int
    layers: int
    write: float
    push: float
    requests: int
    pull: float
    edit_bytes: int
    registry: int
    node: int
    load: float = 0.0
    start: float = 0.0


def main() -> int:
    """Measure, and print the table on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--engine", action="store_true")
    arguments = parser.parse_args()
    work = Path(".work/bench/max-layers").absolute()
    work.mkdir(parents=True, exist_ok=True)
    store = Store(work / "store")
    layout = ImageLayout(work / "images")
    base = python_base(layout)
    contents = read_base(base, cache=work / "store", progress=SilentProgress())
    wheels = _parts(work, store)
    environments = list(_environments(wheels))
    turns: dict[int, list[Row]] = {}
    # In turns, so that the load of the machine is the same for all.
    for _ in range(arguments.turns):
        for max_layers in (12, 40, 100):
            row = _measure(max_layers, environments, (base, contents), store, engine=arguments.engine)
            turns.setdefault(max_layers, []).append(row)
            print(row, file=sys.stderr, flush=True)
    _print_table(turns)
    return 0


def _measure(
    max_layers: int,
    environments: Sequence[Sequence[WheelPart]],
    base: tuple[OCIImage, BaseContents],
    store: Store,
    *,
    engine: bool,
) -> Row:
    # Parts stay: what is measured is a new environment of known packages.
    def build(wheels: Sequence[WheelPart]) -> tuple[OCIImage, tuple[Layer, ...]]:
        layers = write_environment(
            EnvironmentFiles(base[1], MINOR, wheels, inventory=str(len(wheels))),
            budget=max_layers - 1,
            store=store,
            compression=compression_of("gzip"),
            progress=SilentProgress(),
        )
        return _image(base[0], layers), layers

    for entry in (store.root / "layers").glob("*.json"):
        if '"layer"' in entry.read_text()[:40]:
            entry.unlink()
    began = time.perf_counter()
    first, first_layers = build(environments[0])
    write = time.perf_counter() - began
    images = [(first, first_layers), *map(build, environments[1:])]
    with (
        tempfile.TemporaryDirectory(dir=store.root) as folder,
        LocalRegistry(Path(folder), auth={}) as registry,
    ):
        began = time.perf_counter()
        _push(first, registry.host, "env")
        push = time.perf_counter() - began
        began = time.perf_counter()
        source, target = f"docker://{registry.host}/env:1", f"oci:{folder}/x:1"
        _run("skopeo", "copy", "--quiet", "--src-tls-verify=false", source, target)
        pull = time.perf_counter() - began
        shutil.rmtree(Path(folder) / "x")
        with RegistryProxy(registry.host) as proxy:
            _push(first, proxy.host, "counted")
            requests = len(proxy.requests)
            # The second one has other versions of some packages.
            edited = _push(images[1][0], proxy.host, "counted").sent
        for image, _ in images[1:]:
            _push(image, registry.host, "env")
        blobs = {layer.digest: layer.size for image, _ in images for layer in image.manifest.layers}
    load, start = _in_engine(first) if engine else (0.0, 0.0)
    return Row(
        max_layers,
        len(first.manifest.layers),
        write,
        push,
        requests,
        pull,
        edited,
        sum(blobs.values()),
        _node_bytes(images),
        load,
        start,
    )


def _image(base: OCIImage, layers: Sequence[Layer]) -> OCIImage:
    config = ImageConfig(
        "linux/amd64",
        (*base.config.diff_ids, *(layer.diff_id for layer in layers)),
        ContainerConfig(cmd=("/opt/env/bin/python", "-c", "")),
        created="1980-01-01T00:00:00Z",
    )
    paths = {layer.blob.digest: layer.path for layer in layers}

    class Blobs:
        def read(self, descriptor: Descriptor) -> Iterator[bytes]:
            path = paths.get(descriptor.digest)
            if path is None:
                yield from base.layers.read(descriptor)
                return
            with path.open("rb") as file:
                yield from iter(lambda: file.read(1 << 20), b"")

    return compose_image(config, (*base.manifest.layers, *(layer.blob for layer in layers)), Blobs())


def _push(image: OCIImage, host: str, name: str) -> Pushed:
    with Repository(f"{host}/{name}") as repository:
        return push_image(image, repository, tags=["1"], progress=SilentProgress())


def _node_bytes(images: Sequence[tuple[OCIImage, tuple[Layer, ...]]]) -> int:
    """Return the size of all layers as a node keeps them: unpacked, each once above the same layers."""
    kept: dict[str, int] = {}
    for _, layers in images:
        chain = ""
        for layer in layers:
            chain = hashlib.sha256(f"{chain} {layer.diff_id}".encode()).hexdigest()
            kept[chain] = sum(plain for part in layer.parts for _, plain in part.members)
    return sum(kept.values())


def _in_engine(image: OCIImage) -> tuple[float, float]:
    from imagesync.registry.archive import write_archive

    name = "imagesync-bench:max-layers"
    with tempfile.TemporaryFile() as file:
        write_archive(image, file, references=[name], docker=True)
        file.seek(0)
        began = time.perf_counter()
        subprocess.run(["docker", "load", "--quiet"], stdin=file, check=True, stdout=subprocess.DEVNULL)
        load = time.perf_counter() - began
    try:
        began = time.perf_counter()
        # The base is no whole system: creating its root file system is what depends on layers.
        container = _run("docker", "create", name)
        start = time.perf_counter() - began
        _run("docker", "rm", container.strip())
    finally:
        _run("docker", "rmi", name)
    return load, start


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _environments(wheels: Mapping[str, Sequence[WheelPart]]) -> Iterator[list[WheelPart]]:
    """Yield lists of wheels: the first one has all packages in their newest version."""
    source = random.Random(16)
    newest = {name: versions[0] for name, versions in wheels.items()}
    yield list(newest.values())
    for _ in range(ENVIRONMENTS - 1):
        chosen = {
            name: source.choice(versions) if source.random() < 0.5 else versions[0]
            for name, versions in wheels.items()
            if name not in OPTIONAL or source.random() < 0.7
        }
        yield list(chosen.values())


def _parts(work: Path, store: Store) -> dict[str, list[WheelPart]]:
    """Return the wheels of each package, the newest version first, with their bytecode."""
    folder = work / "wheels"
    if not folder.is_dir():
        with _downloading(folder) as partial:
            download = ["pip", "download", "--quiet", "--only-binary", ":all:", "--dest", str(partial)]
            _run(sys.executable, "-m", *download, *PACKAGES)
            _run(sys.executable, "-m", *download, "--no-deps", *OLDER)
    stored = [store.add_file(path) for path in sorted(folder.glob("*.whl"))]
    version, abi = sys.version.split()[0], f"cp3{sys.version_info.minor}"
    python = Interpreter("cpython", version, "linux-x86_64", abi, sys.executable, "/", "/")
    target = Target(LINUX_AMD64, version, (2, 36))
    compiled = compile_bytecode(
        stored,
        python=python,
        target=target,
        site_packages=site_packages(MINOR),
        store=store,
        progress=SilentProgress(),
    )
    bytecode = bytecode_by_wheel(stored, compiled)
    found: dict[str, list[WheelPart]] = {}
    for wheel in stored:
        part = WheelPart(wheel, bytecode.get(wheel.filename), "pip", MINOR)
        found.setdefault(str(parse_wheel_filename(wheel.filename)[0]), []).append(part)
    for versions in found.values():
        versions.sort(key=lambda part: parse_wheel_filename(part.filename)[1], reverse=True)
    return found


@contextmanager
def _downloading(folder: Path) -> Iterator[Path]:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    yield partial
    partial.rename(folder)


def _print_table(turns: Mapping[int, Sequence[Row]]) -> None:
    units = {"write": "s", "push": "s", "pull": "s", "load": "s", "start": "s"}
    columns = [each.name for each in fields(Row)]
    print("| " + " | ".join(f"{name} {units.get(name, '')}".strip() for name in columns) + " |")
    print("|---" * len(columns) + "|")
    for rows in turns.values():
        cells = []
        for name in columns:
            middle = statistics.median(getattr(each, name) for each in rows)
            is_bytes = name in ("edit_bytes", "registry", "node")
            cells.append(f"{middle / 1e6:.0f} MB" if is_bytes else f"{middle:.4g}")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    run_script(main)
