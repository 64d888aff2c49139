"""Strings in the syntax of a Dockerfile."""

from __future__ import annotations

import re

from imagesync.errors import RenderError

_LABEL_LINE = 2000
# BuildKit takes lines of up to 64 KiB; between two plain characters a string may be continued on the next.
_PLAIN_RUN = re.compile(rf".{{{_LABEL_LINE},}}?[A-Za-z0-9](?=[A-Za-z0-9])", re.DOTALL)


def dockerfile_quote(value: object) -> str:
    r"""Return *value* as a string of a Dockerfile's ``LABEL`` or ``ENV``, in which nothing is expanded.

    >>> print(dockerfile_quote('{"price": "$5"}'))
    "{\"price\": \"\$5\"}"
    """
    text = str(value)
    if re.search(r"[\r\n\0]", text):
        raise RenderError(f"a value of a Dockerfile can't have line breaks in it: {text[:60]!r}")
    quoted = re.sub(r'(["\\$])', r"\\\1", text)
    return '"' + _PLAIN_RUN.sub(lambda run: run.group() + "\\\n", quoted) + '"'
