"""Write docs/tour-light.svg and docs/tour-dark.svg: a real session on a terminal, in examples/weather.

Usage: .venv/bin/uv run --no-project --with pyte --with rich scripts/terminal_picture.py

It needs a container engine and .venv (``make setup``), and takes about a minute. Every line is what the
commands printed, as a terminal shows it at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import struct
import subprocess
import tempfile
import termios
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from uuid import uuid4

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parent.parent
COLUMNS = 84
LINES = 200
PICTURES: Mapping[str, TerminalTheme] = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
SESSION = (
    "imagesync build",
    "imagesync -q run weather-report | tail -n 2",
    "sed -i 's/hourly readings/hours/' src/weather/report.py   # an edit: another image",
    "imagesync -q build",
    "git checkout -q .     # taken back: the first one is found again",
    "imagesync -q build",
)


def main() -> None:
    """Run the session, and write both pictures."""
    project = Path(tempfile.gettempdir(), "weather")  # the picture shows its name
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        environ = prepare(project, Path(name), stack)
        screen = pyte.Screen(COLUMNS, LINES)
        stream = pyte.ByteStream(screen)
        for command in SESSION:
            stream.feed(f"\x1b[1m$ {command}\x1b[0m\r\n".encode())
            if (code := run(command, stream, cwd=project, environ=environ)) != 0:
                shown = "\n".join(line.plain for line in shown_lines(screen))
                raise SystemExit(f"{shown}\n{command} ended with {code}")
    for theme, colours in PICTURES.items():
        console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115
        for line in shown_lines(screen):
            console.print(line, soft_wrap=True)
        picture = ROOT / "docs" / f"tour-{theme}.svg"
        console.save_svg(str(picture), title="weather", theme=colours, clear=False, unique_id=f"tour-{theme}")
        print(f"Wrote {picture.relative_to(ROOT)}")


def prepare(project: Path, folder: Path, stack: contextlib.ExitStack) -> dict[str, str]:
    """Make the project with its environment, which *stack* removes, and return the session's variables."""
    shutil.copytree(
        ROOT / "examples" / "weather", project, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__")
    )
    stack.callback(shutil.rmtree, project)
    with (project / "src" / "weather" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(f"# {uuid4()}\n")  # the engine has no image of it, whoever has built here before
    base = output("scripts/base_image.py")
    version = output("scripts/base_python.py", IMAGESYNC_BASE=base)
    python = subprocess.run(
        [ROOT / "scripts" / "find-python.sh", version.rpartition(".")[0]],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    uv = ROOT / ".venv" / "bin" / "uv"
    subprocess.run([uv, "venv", "--quiet", "--no-project", "--python", python, project / ".venv"], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", project / ".venv", "--editable", project], check=True
    )
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "weather"]):
        identity = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=project, check=True)
    # As `uv tool install` puts it on PATH.
    tools = folder / "bin"
    tools.mkdir()
    (tools / "imagesync").symlink_to(ROOT / ".venv" / "bin" / "imagesync")
    # `uv run` puts .venv on PATH.
    folders = [name for name in os.environ["PATH"].split(os.pathsep) if not Path(name).is_relative_to(ROOT)]
    path = os.pathsep.join((str(tools), *folders))
    kept = {name: os.environ[name] for name in ("HOME", "DOCKER_HOST") if name in os.environ}
    return {
        **kept,
        "PATH": path,
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "IMAGESYNC_BASE": base,
        "IMAGESYNC_CACHE_DIR": str(folder / "cache"),
        "IMAGESYNC_PYTHON": "base",
    }


def output(script: str, **variables: str) -> str:
    """Return what one of the project's scripts prints."""
    command = [ROOT / ".venv" / "bin" / "python", ROOT / script]
    environ = {**os.environ, **variables}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ).stdout.strip()


def run(command: str, stream: pyte.ByteStream, *, cwd: Path, environ: Mapping[str, str]) -> int:
    """Run a command of the shell on a terminal, feed *stream* what it prints, and return its exit code."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["/bin/bash", "-o", "pipefail", "-c", command],
        cwd=cwd,
        env=dict(environ),
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # Linux says EIO where the last process has closed its end
            break
        if not piece:
            break
        stream.feed(piece)
    os.close(leader)
    return process.wait()


def shown_lines(screen: pyte.Screen) -> list[Text]:
    """Return the lines of a screen with their styles, without the empty ones at its end."""
    lines = []
    for number in range(screen.cursor.y):
        cells = [screen.buffer[number][column] for column in range(COLUMNS)]
        text = Text()
        for style, run_of_cells in groupby(cells, cell_style):
            text.append("".join(cell.data for cell in run_of_cells), style)
        text.rstrip()
        lines.append(text)
    return lines


def cell_style(cell: pyte.screens.Char) -> Style:
    """Return rich's style of a cell."""
    colour = None if cell.fg == "default" else rich_colour(cell.fg)
    return Style(color=colour, bold=cell.bold, italic=cell.italics)


def rich_colour(name: str) -> str:
    """Return rich's name of a colour of pyte's: a word, or six hexadecimal digits."""
    words = {"brown": "yellow", "brightbrown": "bright_yellow"}
    if name in words:
        return words[name]
    if name.startswith("bright"):
        return "bright_" + name.removeprefix("bright")
    return f"#{name}" if len(name) == 6 and not name.isalpha() else name


if __name__ == "__main__":
    main()
