"""The user's options in a Dockerfile: variables, copied files, and commands that run at its end."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.engine.build_context import ContextFile
from imagesync.image_layout import HOME, PREFIX

if TYPE_CHECKING:
    from imagesync.image_layout import CopiedFiles, ImageOptions
    from imagesync.lock.lock import Lock

# Says between two steps of a build that the working directory is one that imagesync made.
_WORKDIR_MADE: Final = PREFIX / ".workdir-made"
# Wheels of CUDA and those that bring it along; nvidia-ml-py and its like work without a GPU.
_CUDA_WHEEL = re.compile(r"nvidia-(cu|nccl|nvjitlink|nvtx)|cupy-cuda|jax-cuda")


def environment_variables(lock: Lock, options: ImageOptions) -> dict[str, str]:
    """Return the variables of an image besides those of its environment: NVIDIA's, and the user's own.

    NVIDIA's container runtime mounts no driver without them.
    https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html
    """
    if not uses_cuda(lock):
        return dict(options.env)
    driver = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    return {**driver, **options.env}


def uses_cuda(lock: Lock) -> bool:
    """Return True if a wheel brings CUDA, or a conda package depends on ``__cuda``."""
    wheels: list[tuple[str, str]] = [(package.name, package.version) for package in lock.packages]
    wheels += [(package.name, package.version) for package in lock.vendored]
    if any(_CUDA_WHEEL.match(name) or "+cu" in version for name, version in wheels):
        return True
    return any(spec.split()[0] == "__cuda" for package in lock.conda for spec in package.depends)


def run_lines(options: ImageOptions) -> list[str]:
    """Return the lines of a Dockerfile that run the user's commands as root; none if there are none."""
    if not options.run:
        return []
    commands = [f"RUN {json.dumps(['/bin/sh', '-euc', command])}" for command in options.run]
    if _owner_comes_later(options):
        made, folder = shlex.quote(str(_WORKDIR_MADE)), shlex.quote(options.workdir)
        chown = f"chown {owner_of(options.user)} {folder}"
        commands.append(f"RUN [ ! -e {made} ] || {{ rm {made}; {chown}; }}")
    return ["USER 0:0", *commands, f"USER {options.user}"]


def workdir_command(options: ImageOptions) -> str:
    """Return the shell command that makes the working directory for the user; empty for the home.

    If commands of the user's may add that account, :func:`run_lines` name the owner after them.
    """
    if options.workdir == str(HOME):
        return ""
    folder = shlex.quote(options.workdir)
    owner = f"chown {owner_of(options.user)} {folder}"
    if _owner_comes_later(options):
        owner = f"touch {shlex.quote(str(_WORKDIR_MADE))}"
    return f"[ -d {folder} ] || {{ mkdir -p {folder}; {owner}; }}"


def _owner_comes_later(options: ImageOptions) -> bool:
    is_number = options.user.replace(":", "").isdecimal()
    return bool(options.run) and not is_number and options.workdir != str(HOME)


def owner_of(user: str) -> str:
    """Return *user* as ``chown`` takes it; a number without a group has the group of that number.

    >>> owner_of("1000"), owner_of("1000:100"), owner_of("app")
    ('1000:1000', '1000:100', 'app')
    """
    return f"{user}:{user}" if user.isdecimal() else user


def copy_instructions(options: ImageOptions) -> list[tuple[str, str]]:
    """Return the path in the context and the path in the image for each entry of the setting ``files``."""
    return [(_context_path(number, entry), entry.target) for number, entry in enumerate(options.files)]


def copied_files(options: ImageOptions) -> Iterator[ContextFile]:
    """Yield the user's files as those of a build context."""
    for number, entry in enumerate(options.files):
        place = _context_path(number, entry)
        for file in entry.files:
            path = place + file.path.removeprefix(f"{entry.target}/") if place.endswith("/") else place
            mode = 0o755 if file.executable else 0o644
            yield ContextFile(path, Path(file.source), file.size, mode, file.sha256)


def _context_path(number: int, entry: CopiedFiles) -> str:
    """Return where an entry lies in the context; its own names may be patterns in a Dockerfile."""
    is_file = [file.path for file in entry.files] == [entry.target]
    return f"copied/{number}/file" if is_file else f"copied/{number}/"
