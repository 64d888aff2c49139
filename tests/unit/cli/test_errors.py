from __future__ import annotations

import io

from imagesync.cli.output import print_error
from imagesync.errors import UsageError


def test_error_and_hint_are_two_lines() -> None:
    stream = io.StringIO()
    print_error(UsageError("No such \x1b[31mlevel", hint="Use exact."), stream)
    assert stream.getvalue() == "error: No such level\nhint: Use exact.\n"


def test_error_keeps_the_lines_of_a_log() -> None:
    stream = io.StringIO()
    print_error(UsageError("Step 3 failed:\n  line one\n  line two"), stream)
    assert stream.getvalue() == "error: Step 3 failed:\n  line one\n  line two\n"
