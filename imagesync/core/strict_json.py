"""JSON from elsewhere, of which whatever is wrong is a ``ValueError``.

Source: RFC 8259; I-JSON (RFC 7493) for numbers and texts.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def load_json(content: bytes | str) -> Any:  # noqa: ANN401  as in json
    r"""Return the value of a JSON document that can be written as JSON again.

    Raises
    ------
    ValueError
        It is damaged or nested too deeply, has a number that is none or too large, or a text with half of a
        surrogate pair, which has no encoding; the reason follows "can't be used".

    >>> load_json('{"a": [1.5]}')
    {'a': [1.5]}
    >>> load_json(r'["\ud800"]')
    Traceback (most recent call last):
    ...
    ValueError: it has a text that isn't Unicode
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        parsed = json.loads(text, parse_float=_finite, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError("it isn't JSON") from error
    # The bytes were decoded strictly: only an escape can be half of a pair.
    if "\\ud" in text.lower() or isinstance(content, str):
        try:
            json.dumps(parsed, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError) as error:
            raise ValueError("it has a text that isn't Unicode") from error
    return parsed


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
