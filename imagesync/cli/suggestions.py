"""Suggestions for commands and options that imagesync lacks but Docker, uv or conda have."""

from __future__ import annotations

import re
from typing import Final

import click

_COMMANDS: Final = {
    "compile": "imagesync lock",
    "config": "imagesync cluster config TARGET; settings: imagesync init",
    "create": "imagesync build",
    "down": "imagesync cluster down NAME",
    "exec": "imagesync run COMMAND",
    "export": "imagesync lock -o FILE, or imagesync lock --export FORM",
    "freeze": "imagesync lock --export requirements",
    "images": "docker images imagesync (or what `repository` says)",
    "info": "imagesync doctor; imagesync cache info",
    "list": "imagesync scan for packages, docker images imagesync for images",
    "login": "docker login REGISTRY, whose credentials imagesync uses",
    "ls": "docker images imagesync for images, imagesync cluster ls for clusters",
    "prune": "imagesync cache prune",
    "ps": "imagesync cluster ls",
    "pull": "imagesync build --repository REGISTRY/NAME, which pulls what is there already",
    "rmi": "docker rmi REFERENCE",
    "shell": "imagesync run bash",
    "tag": "imagesync build --tag REFERENCE",
    "up": "imagesync cluster up",
}
_DRY_RUN: Final = (
    "imagesync plan shows what the image will hold, and imagesync lock its artifacts; neither builds."
)
_ANYWHERE: Final = {
    "--dry-run": _DRY_RUN,
    "--verbose": "Before the command: imagesync --verbose COMMAND",
    "--quiet": "Before the command: imagesync --quiet COMMAND",
    "-v": "Before the command: imagesync -v COMMAND",
    "-q": "Before the command: imagesync -q COMMAND",
}
_FILE: Final = (
    "imagesync writes the Dockerfile itself: `imagesync render -o DIR` shows it, and --templates DIR names"
    " templates of your own. The environment is chosen by --python or --prefix, a lock file by --locked."
)
_DOCKER_RUN: Final = "For other options: docker run OPTIONS $(imagesync build) COMMAND"
_OPTIONS: Final = {
    "build": {
        "-f": _FILE,
        "--file": _FILE,
        "--build-arg": "Templates of your own take its place: --templates DIR",
        "--image": "--repository NAME, or --tag REFERENCE for an additional name",
        "--name": "--repository NAME, or --tag REFERENCE for an additional name",
        "-n": _DRY_RUN,
        "-o": "imagesync render -o DIR writes the build context.",
        "--output": "imagesync render -o DIR writes the build context.",
        "--pull": "The base image is pulled where it is missing; docker pull BASE for a newer one.",
        "-r": "Packages come from the environment; --add-pip REQUIREMENT adds one for the image alone.",
    },
    "run": {
        "-d": _DOCKER_RUN,
        "--detach": _DOCKER_RUN,
        "--entrypoint": _DOCKER_RUN,
        "--name": _DOCKER_RUN,
        "--rm": "Omit it: the container is removed when the command ends.",
        "-w": _DOCKER_RUN,
    },
}
_COMMAND: Final = re.compile(r"No such command '(?P<name>[^']+)'")
_ARGUMENT: Final = re.compile(r"unexpected extra argument")


def hint_for(error: click.ClickException) -> str | None:
    """Return the equivalent of the command or option that *error* rejects, ``None`` if there is none."""
    context = getattr(error, "ctx", None)
    command = "" if context is None or context.command.name is None else context.command.name
    if context is not None and context.parent is None:
        command = "imagesync"
    if isinstance(error, click.NoSuchOption):
        return _OPTIONS.get(command, {}).get(error.option_name) or _ANYWHERE.get(error.option_name)
    message = error.format_message()
    if command == "imagesync" and (match := _COMMAND.search(message)):
        return _COMMANDS.get(match["name"])
    if command == "build" and _ARGUMENT.search(message):
        return (
            "A build takes the environment that you are in, and no folder: leave it away. --prefix DIR names"
            " another environment, --code DIR modules that no package owns, --templates DIR your Dockerfile."
        )
    return None
