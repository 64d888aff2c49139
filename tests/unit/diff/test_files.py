from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.diff.sides import find_side, read_inventory
from imagesync.errors import UsageError
from imagesync.session import open_session


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"inventory": 99}', "name: x", '{"target": {}}', '{"inventory": 1, "packages": [1]}'],
)
def test_file_that_is_neither_lock_nor_inventory_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text(text)
    with pytest.raises(UsageError, match=r"lock\.json isn't a lock"):
        read_inventory(tmp_path / "lock.json")


def test_side_that_cannot_be_read_is_wrong_usage(tmp_path: Path) -> None:
    # A file that even root can't read.
    side = Path("/proc/self/mem")
    if not side.exists():
        pytest.skip("there is no /proc")
    with pytest.raises(UsageError, match="can't be read"):
        find_side(str(side), session=open_session(quiet=True, cache_dir=tmp_path))
