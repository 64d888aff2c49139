"""``imagesync init``: commented settings in the configuration file of the project."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from imagesync.core.files import parse_toml, write_text
from imagesync.errors import UsageError

_TABLE = "[tool.imagesync]"
_EDIT = "Change them there, or remove them first to get all settings with comments."


@click.command()
def init() -> None:
    """Write commented settings to pyproject.toml or imagesync.toml."""
    click.echo(write_settings(Path.cwd()))


def write_settings(folder: Path) -> Path:
    """Write commented settings into a configuration file of *folder*, and return its path.

    They are appended to an existing ``pyproject.toml``, or else become a new ``imagesync.toml``.

    Raises
    ------
    UsageError
        Settings exist already, ``pyproject.toml`` can't be read, or the folder can't be written to.
    """
    settings = folder / "imagesync.toml"
    if settings.exists():
        raise UsageError(f"There are settings already, in {settings}.", hint=_EDIT)
    project = folder / "pyproject.toml"
    template = files("imagesync").joinpath("settings_template.toml").read_text("utf-8")
    if not project.exists():
        write_text(settings, _without_prefix(template))
        return settings
    # Resolved, so that a symlink isn't replaced by a file.
    write_text(project.resolve(), _appended(project, template))
    return project


def _without_prefix(template: str) -> str:
    """Return the template for ``imagesync.toml``, whose tables have no prefix ``tool.imagesync``."""
    return template.replace(f"{_TABLE}\n", "", 1).replace("[tool.imagesync.", "[")


def _appended(project: Path, template: str) -> str:
    try:
        # As bytes, because reading text would translate line endings.
        text = project.read_bytes().decode("utf-8")
        document = parse_toml(text)
    except OSError as error:
        raise UsageError(f"can't read {project}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{project} isn't valid TOML: {error}", hint="Correct it first.") from error
    if "imagesync" in document.get("tool", {}):
        raise UsageError(f"There are settings already, in {project}.", hint=_EDIT)
    ending = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text else ending if text.endswith(ending) else 2 * ending
    result = f"{text}{gap}{template.replace(chr(10), ending)}"
    try:
        parse_toml(result)
    except ValueError as error:
        hint = f"Put {_TABLE} there by hand, or the settings into imagesync.toml."
        raise UsageError(f"{project} can't take another table at its end: {error}", hint=hint) from error
    return result
