"""``python -m benchmarks.source_tree``: what an unchanged source tree of 10,000 files costs the second time.

Beside it ``git status`` on the same tree, which has the same question to answer. Needs git, and no engine.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure import Run, in_turns, median_seconds
from benchmarks.scripts import run_script
from imagesync.wheels.sources.source_tree import source_files, tree_digest

FILES = 10_000
LIMIT = 0.05  # seconds
_A_FOLDER = 50
# Files that are younger than this are read again, because a file system may give a second edit the same time.
_SETTLED = 2.5


def main() -> int:
    """Measure, print tables on stdout, and return 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.source_tree", description=__doc__)
    parser.add_argument("--turns", type=int, default=20)
    arguments = parser.parse_args()
    good = []
    for name, with_git in (("git", True), ("no git", False)):
        with tempfile.TemporaryDirectory(prefix="imagesync-bench-") as place:
            runs = measure(Path(place), turns=arguments.turns, with_git=with_git)
        ours, theirs = median_seconds(runs["digest"]), median_seconds(runs["git status"])
        print(f"{FILES} files, {name}: {ours:.3f} s, git status {theirs:.3f} s (goal: {LIMIT:g} s)")
        good.append(ours <= LIMIT)
    return 0 if all(good) else 1


def measure(place: Path, *, turns: int, with_git: bool) -> dict[str, list[Run]]:
    """Return the runs in a new tree below *place*, whose digest was taken once before."""
    tree, cache = make_tree(place / "tree"), place / "cache"
    repository = tree if with_git else make_tree(place / "beside")
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "All"]):
        _git(repository, *arguments)
    time.sleep(_SETTLED)
    first = tree_digest(tree, cache=cache)

    if len(source_files(tree)) != FILES:
        raise RuntimeError("not every file is in the digest")

    def digest() -> Mapping[str, float]:
        if tree_digest(tree, cache=cache) != first:
            raise RuntimeError("the digest of an unchanged tree changed")
        return {}

    contenders = {"digest": digest, "git status": lambda: _git(repository, "status", "--porcelain")}
    return in_turns(contenders, runs=turns, warm_up=True)


def make_tree(folder: Path) -> Path:
    """Make a tree of small modules, all different."""
    for number in range(FILES):
        path = folder / f"package{number // _A_FOLDER:03}" / f"module{number % _A_FOLDER:02}.py"
        if number % _A_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_text(f"number = {number}\n" * 20, "utf-8")
    return folder


def _git(folder: Path, *arguments: str) -> Mapping[str, float]:
    identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.com"]
    identity += ["-c", "gc.auto=0", "-c", "maintenance.auto=false"]  # which would go on in the background
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return {}


if __name__ == "__main__":
    run_script(main)
