"""Inputs that nobody writes: bytes, and files that somebody has changed in a few places."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import strategies as st

TOKENS: Final = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\r",
    b"\n\n",
    b"\n ",
    b"../",
    b"/",
    b"-",
    b"--",
    b"$(id)",
    b"${HOME}",
    b"%2d",
    b"&a *a",
    b"!!python/object:os.system",
    b"\\ud800",
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"null",
    b"[" * 3000,
    b"{" * 3000,
    b"(" * 3000,
    b"sha256: abc",
    b"sha256:" + b"0" * 64,
    b"x" * 70000,
    b"<script>",
    b"\x1b]0;x\x07",
    b",,,",
    b'"',
    b"'",
    b"#",
    b";",
    b"@",
)


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Return one of *seeds* with pieces replaced, removed and doubled; now and then any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from((0, 1, 2, 4, 8, 40, 1 << 30))))
        piece = draw(st.sampled_from(TOKENS) | st.binary(max_size=8) | st.just(content[start:end] * 2))
        content = content[:start] + piece + content[end:]
    return content


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(("", "x", "../x", "/x", "-x", "a b", "sha256:0", "\0", "\ud800", "1.0", "9" * 5000))
    | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=4,
)


@st.composite
def other_values(draw: st.DrawFn, document: str) -> bytes:
    """Return the JSON *document* with some of its values replaced by values of any type, or removed."""
    root = json.loads(document)
    for _ in range(draw(st.integers(1, 3))):
        root = _replaced(draw, root)
    return json.dumps(root).encode()


def _replaced(draw: st.DrawFn, value: Any) -> Any:
    keys = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    if not keys or draw(st.integers(0, 3)) == 0:
        return draw(_VALUES)
    key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 5)) == 0:
        del value[key]
    else:
        value[key] = _replaced(draw, value[key])
    return value
