from __future__ import annotations

import hashlib
from pathlib import Path

from imagesync.core.digests import file_hexdigest, sha256_of, sha256_of_json


def test_digest_of_json_depends_on_neither_order_nor_spaces() -> None:
    assert sha256_of_json({"b": ["é"], "a": 1}) == sha256_of('{"a":1,"b":["\\u00e9"]}')


def test_digest_of_a_file_larger_than_a_chunk(tmp_path: Path) -> None:
    content = b"0123456789abcdef" * (1 << 17)
    (tmp_path / "file").write_bytes(content)
    assert file_hexdigest(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert file_hexdigest(tmp_path / "file", "md5") == hashlib.md5(content).hexdigest()
