"""The console blocks of the pages: command lines, what is shown of their output, and who runs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CONFIG = "test_deployments.py"
DASK_OPERATOR = (
    "cluster config dask-operator --push --name weather --workers 8 --nthreads 2 --memory-limit 8GiB "
    "-o dask.yaml"
)

RUN_BY = {
    ("README.md", "scan"): "test_tour.py",
    ("README.md", "plan"): "test_tour.py",
    ("README.md", "build --base debian:bookworm-slim"): "test_tour.py",
    ("README.md", "run --base debian:bookworm-slim weather-report"): "test_tour.py",
    (
        "clusters.md",
        "cluster up --name nightly --workers 4 --nthreads 1 --memory-limit 2GiB",
    ): "test_console_blocks.py",
    ("compare.md", "diff local project:9f2ce0b1d4a87c35"): "test_console_blocks.py",
    ("conda.md", "scan"): "test_tour.py",
    ("deployments.md", DASK_OPERATOR): _CONFIG,
    ("deployments.md", "cluster config dask-gateway -o values.yaml"): _CONFIG,
    ("deployments.md", "cluster config compose -o compose.yaml"): _CONFIG,
    ("deployments.md", "cluster config swarm-stack --push -o dask.yaml"): _CONFIG,
    ("deployments.md", "cluster config ecs --push -o tasks.json"): _CONFIG,
    ("deployments.md", "cluster config kubernetes --update deploy/dask.yaml"): _CONFIG,
    ("environments.md", "build"): "test_console_blocks.py",
    ("locking.md", "lock -o conda-lock.yml"): "test_console_blocks.py",
    ("locking.md", "build --locked"): "test_console_blocks.py",
    ("locking.md", "lock --check"): "test_console_blocks.py",
    ("locking.md", "lock --add-pip distributed==2022.5.1"): "test_tour.py",
    ("registries.md", "build --push"): _CONFIG,
    ("run.md", "run python train.py --strict"): "test_console_blocks.py",
    ("run.md", "run bash"): "test_console_blocks.py",
    ("run.md", "run --gpus all --shm-size 8g --mount /data:/data:ro python train.py"): "",  # needs a GPU
}
"""The test in ``tests/integration`` that runs each command line, by page and arguments."""


def page(name: str) -> str:
    """Return the text of a page, by its file's name."""
    return (ROOT / name if name == "README.md" else ROOT / "docs" / name).read_text("utf-8")


def command_lines(name: str) -> list[str]:
    """Return the arguments of each command line of imagesync in the blocks of a page, without comments."""
    blocks = re.findall(r"^```(?:console|sh|bash)\n(.*?)^```", page(name), re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [
        line.removeprefix("imagesync ").partition(" #")[0].strip()
        for line in lines
        if line.startswith("imagesync ")
    ]


def indented_lines(name: str) -> list[str]:
    """Return the arguments of each command line of imagesync in the indented code of a page."""
    lines = re.findall(r"^    imagesync (.+)$", page(name), re.MULTILINE)
    return [line.partition(" #")[0].strip() for line in lines]


def shown(name: str, command: str) -> list[str]:
    """Return the lines that a page shows of a command's output, without those left out."""
    text = re.split(rf"^\$ imagesync {re.escape(command)}(?: +#.*)?$", page(name), flags=re.MULTILINE)[1]
    block = re.split(r"^(?:```|\$ )", text, flags=re.MULTILINE)[0]
    return [line for line in block.splitlines() if line.strip() not in ("", "...")]


def shape(line: str, names: Mapping[str, str]) -> str:
    """Return a line without what differs between machines and days: *names*, versions and numbers."""
    for here, there in names.items():
        line = line.replace(here, there)
    line = re.sub(r"\d+ min \d+ s", "N s", line)
    return " ".join(re.sub(r"\d+(?:\.\d+)*", "N", line).split())


def missing(name: str, command: str, output: str, names: Mapping[str, str]) -> list[str]:
    """Return the lines that a page shows and the output lacks; *names* are this machine's and the page's."""
    lines = {shape(line, names) for line in _ANSI.sub("", output).splitlines()}
    return [line for line in shown(name, command) if shape(line, {}) not in lines]
