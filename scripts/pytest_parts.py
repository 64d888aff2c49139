"""Tests in parts that run beside each other, each a process of pytest with a log in ``.work``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

WORK = Path(".work")
NOTABLE = ("FAILED ", "ERROR ", "SKIPPED ")
NO_TESTS = 5  # pytest's exit code where its arguments select none


class Parts:
    """Processes of pytest, with the arguments of this process.

    Parameters
    ----------
    name
        Beginning of the logs' names.
    options
        Options of pytest by part.
    """

    def __init__(self, name: str, options: Mapping[str, Sequence[str]]) -> None:
        self.codes: dict[str, int] = {}
        self._name = name
        self._options = options
        self._running: list[subprocess.Popen[bytes]] = []
        self._is_interrupted = False
        WORK.mkdir(exist_ok=True)
        for part in options:
            self.log(part).unlink(missing_ok=True)
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGTERM, end)

    def log(self, part: str) -> Path:
        """Return the file with a part's output."""
        return WORK / f"{self._name}-{part}.log"

    @contextmanager
    def threads(self) -> Iterator[ThreadPoolExecutor]:
        """Provide a thread for each part, and interrupt at the end what still runs."""
        with ThreadPoolExecutor(len(self._options)) as threads:
            try:
                yield threads
            finally:
                # As Ctrl-C does: a part removes what it has made in the engine.
                self._is_interrupted = True
                for process in self._running:
                    if process.poll() is None:
                        process.send_signal(signal.SIGINT)

    def run(
        self, part: str, *options: str, environ: Mapping[str, str] | None = None, is_shown: bool = False
    ) -> None:
        """Run a part to its end.

        Parameters
        ----------
        part
            Its name.
        options
            More options of pytest.
        environ
            More environment variables.
        is_shown
            Whether its output is printed while it runs.
        """
        if self._is_interrupted:
            return
        command = [sys.executable, "-m", "pytest", *self._options[part], *sys.argv[1:], *options]
        # Hundreds of processes import imagesync: its modules are compiled once.
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        with (
            self.log(part).open("wb", buffering=0) as file,
            subprocess.Popen(
                command,
                env={**kept, **(environ or {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C interrupts it once: by us
            ) as process,
        ):
            self._running.append(process)
            assert process.stdout is not None
            while output := process.stdout.read1():  # type: ignore[attr-defined]
                file.write(output)
                if is_shown:
                    show(output)
        self.codes[part] = process.returncode

    def summary(self) -> Iterator[str]:
        """Yield what each part came to, and what of it failed or didn't run."""
        for part in self._options:
            log = self.log(part)
            lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
            below = next(
                (number for number, line in enumerate(lines) if " short test summary info " in line),
                len(lines),
            )
            yield f"{part}: {lines[-1].strip('= ') if lines else 'no output'} ({log})"
            yield from (f"  {line}" for line in lines[below:] if line.startswith(NOTABLE))

    def exit_code(self) -> int:
        """Return the first failure of pytest; that there are no tests is one where no part has any."""
        failures = [code for code in self.codes.values() if code not in (0, NO_TESTS)]
        return failures[0] if failures else min(self.codes.values())


def show(output: bytes) -> None:
    """Write output of pytest to ours."""
    sys.stdout.buffer.write(output)
    sys.stdout.flush()


def end(number: int, _frame: FrameType | None) -> None:
    """End by an exception."""
    raise SystemExit(128 + number)
