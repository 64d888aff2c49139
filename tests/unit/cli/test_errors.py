from __future__ import annotations

import io

from imagesync.cli.output import print_error
from imagesync.errors import UsageError
from tests.host_platform import NEEDS_OWN_SYSTEM
from tests.terminals import on_terminal

LONG = r"""
from imagesync.cli.output import print_error
from imagesync.errors import UsageError
print_error(UsageError("No level is called so.\n  as written", hint="imagesync plan --level a=exact"))
"""


def test_error_and_hint_are_two_lines() -> None:
    stream = io.StringIO()
    print_error(UsageError("No such \x1b[31mlevel", hint="Use exact."), stream)
    assert stream.getvalue() == "error: No such level\nhint: Use exact.\n"


def test_error_keeps_the_lines_of_a_log() -> None:
    stream = io.StringIO()
    print_error(UsageError("Step 3 failed:\n  line one\n  line two"), stream)
    assert stream.getvalue() == "error: Step 3 failed:\n  line one\n  line two\n"


@NEEDS_OWN_SYSTEM
def test_error_breaks_between_words_on_a_terminal_and_its_hint_where_the_terminal_does() -> None:
    _, output = on_terminal(LONG, columns=20, environ={"NO_COLOR": "1"})
    assert output.splitlines() == [
        "error: No level is",
        "called so.",
        "  as written",
        "hint: imagesync plan --level a=exact",
    ]
