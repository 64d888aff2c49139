from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.diff.sides import read_inventory
from imagesync.errors import UsageError


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"inventory": 99}', "name: x", '{"target": {}}', '{"inventory": 1, "packages": [1]}'],
)
def test_file_that_is_neither_lock_nor_inventory_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text(text)
    with pytest.raises(UsageError, match=r"lock\.json isn't a lock"):
        read_inventory(tmp_path / "lock.json")
