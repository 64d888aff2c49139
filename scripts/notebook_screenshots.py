"""Take the pictures of docs/notebook.md: ``python scripts/notebook_screenshots.py``.

A notebook in the project of examples/weather runs in JupyterLab, light and dark, in headless Chromium, with
a real image and a real cluster. Needs a container engine and Debian's package ``chromium``; what else it
needs is installed in ``.work/notebook`` from PyPI.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".work" / "notebook"
PICTURES = ROOT / "docs" / "notebook"
CHROMIUM = "/usr/bin/chromium"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WIDTH = 1000  # pixels
# The name of the picture, if there is one, and the code of each cell.
CELLS = (
    ("", "import imagesync\n\nsession = imagesync.open_session()"),
    ("environment", "session.scan()"),
    ("plan", "session.plan()"),
    ("lock", "session.lock()"),
    ("image", "image = session.build(no_cache=True)\nimage"),
    (
        "",
        "cluster = imagesync.DockerCluster(image.reference, n_workers=2, check=False)\n"
        "cluster.wait_for_workers(2)",
    ),
    ("", "with open('src/weather/report.py', 'a') as file:\n    file.write('# edited\\n')"),
    ("", "import warnings\nwarnings.simplefilter('ignore')"),
    ("check", "cluster.check()"),
    ("check-printed", "print(cluster.check())"),
    ("", "cluster.close()"),
)
BUILD = next(number for number, (name, _) in enumerate(CELLS) if name == "image")
OUTPUT = ".jp-Cell-outputWrapper"
# Tables that are opened for a picture, by a part of their title.
OPENED = {"environment": "package", "plan": "critical"}
LONG = re.compile("Building")
ENDED = re.compile(r"\[\d+\]")


def run(*command: str | Path, **variables: str) -> str:
    """Run a command that must succeed, and return its output."""
    environ = {**os.environ, **variables}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode().strip()


def install(base: str) -> tuple[Path, Path]:
    """Return the interpreters of JupyterLab and of the project, each in an environment of its own."""
    uv = Path(sys.executable).parent / "uv"
    lab, project = WORK / "lab", WORK / "env"
    version = run(sys.executable, "scripts/base_python.py", IMAGESYNC_BASE=base)
    python = run("scripts/find-python.sh", version.rpartition(".")[0])
    for folder, interpreter, packages in (
        (lab, sys.executable, ["jupyterlab>=4.4", "playwright>=1.55"]),
        (project, python, ["ipykernel", "-e", f"{ROOT}[dask]", "-e", str(WORK / "weather")]),
    ):
        if not (folder / "bin" / "python").exists():
            run(uv, "venv", "--quiet", "--python", interpreter, folder)
            run(uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *packages)
    return lab / "bin" / "python", project / "bin" / "python"


def write_project() -> None:
    """Write the project, and a notebook with the cells into its folder."""
    shutil.rmtree(WORK / "weather", ignore_errors=True)
    shutil.copytree(ROOT / "examples" / "weather", WORK / "weather")
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"c{n}",
            "metadata": {},
            "outputs": [],
            "source": code,
        }
        for n, (_, code) in enumerate(CELLS)
    ]
    kernel = {"name": "weather", "display_name": "weather", "language": "python"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (WORK / "weather" / "tour.ipynb").write_text(json.dumps(content))


def write_configuration(project_python: Path, theme: str) -> Mapping[str, str]:
    """Write the kernel's specification and JupyterLab's settings, and return the variables that name them."""
    kernel = WORK / "share" / "kernels" / "weather" / "kernel.json"
    settings = WORK / "settings" / "@jupyterlab"
    files: dict[Path, Any] = {
        kernel: {
            "argv": [str(project_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "weather",
            "language": "python",
        },
        settings / "apputils-extension" / "themes.jupyterlab-settings": {"theme": theme},
        settings / "apputils-extension" / "notification.jupyterlab-settings": {"fetchNews": "false"},
        # Cells that aren't in view have to be in the page.
        settings / "notebook-extension" / "tracker.jupyterlab-settings": {"windowingMode": "none"},
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return {"JUPYTER_PATH": str(WORK / "share"), "JUPYTERLAB_SETTINGS_DIR": str(WORK / "settings")}


@contextmanager
def jupyterlab(python: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Run JupyterLab, and yield the URL of the notebook."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    environ = {**os.environ, **variables}
    with (WORK / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=WORK / "weather", env=environ, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while not answers(f"{url}/api"):
            if time.monotonic() > end or server.poll() is not None:
                raise SystemExit(f"JupyterLab doesn't start: see {WORK / 'lab.log'}")
            time.sleep(0.2)
        yield f"{url}/doc/tree/tour.ipynb"
    finally:
        server.terminate()
        server.wait()


def answers(url: str) -> bool:
    """Return whether a server answers."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def photograph(url: str, theme: str) -> None:
    """Run the notebook at *url*, and take the picture of each output that has a name."""
    # Installed in the environment of JupyterLab alone, whose interpreter runs this.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 800}, device_scale_factor=1.5)
        page.goto(url)
        cells = page.locator(".jp-Notebook .jp-CodeCell")
        cells.nth(len(CELLS) - 1).wait_for()
        # The indicator is idle before there is a kernel, which doesn't take a cell yet.
        page.wait_for_timeout(8_000)
        for number, (name, _) in enumerate(CELLS):
            cell = cells.nth(number)
            cell.locator(".cm-content").click()
            page.keyboard.press("Control+Enter")
            if number == BUILD:
                cell.locator(".imagesync", has=page.locator("progress")).filter(has_text=LONG).wait_for(
                    timeout=120_000
                )
                page.wait_for_timeout(4_000)
                cell.locator(OUTPUT).screenshot(path=PICTURES / f"progress-{theme}.png")
            # JupyterLab makes the prompt anew when the cell has ended.
            cell.locator(".jp-InputPrompt", has_text=ENDED).wait_for(timeout=240_000)
            if name in OPENED:
                cell.locator("summary", has_text=OPENED[name]).last.click()
            if name:
                page.wait_for_timeout(300)  # the output is drawn after the prompt
                cell.locator(OUTPUT).screenshot(path=PICTURES / f"{name}-{theme}.png")
        browser.close()


def main() -> None:
    """Take all pictures, or, in JupyterLab's environment, those of one theme."""
    if len(sys.argv) == 3:
        photograph(sys.argv[1], sys.argv[2])
        return
    if not Path(CHROMIUM).exists():
        run("scripts/apt-install.sh", "chromium")
    PICTURES.mkdir(exist_ok=True)
    base = run(sys.executable, "scripts/base_image.py")
    for theme, name in THEMES.items():
        write_project()
        lab_python, project_python = install(base)
        variables = {
            **write_configuration(project_python, name),
            "IMAGESYNC_BASE": base,
            "IMAGESYNC_PYTHON": "base",
            "IMAGESYNC_REPOSITORY": "imagesync-notebook",
            "VIRTUAL_ENV": str(WORK / "env"),
        }
        with jupyterlab(lab_python, variables) as url:
            subprocess.run([str(lab_python), __file__, url, theme], check=True)


if __name__ == "__main__":
    main()
