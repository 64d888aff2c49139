"""How the scripts of the benchmarks end: where what they need isn't there, with a message and exit code 1."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

from docker.errors import DockerException

from imagesync.cli.output import print_error
from imagesync.errors import ImagesyncError


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run *main*, and exit with its code; with 1 and a message if an engine, a base or a program fails it."""
    try:
        sys.exit(main())
    except ImagesyncError as error:
        print_error(error)
    except (subprocess.CalledProcessError, DockerException, OSError) as error:
        # What a command has printed, where that was captured, says why.
        output = getattr(error, "stderr", None) or ""
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        print_error(ImagesyncError("\n".join(filter(None, [str(error), text.strip()]))))
    sys.exit(1)
