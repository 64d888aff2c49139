"""What a build without an engine takes from the accounts of its base."""

from __future__ import annotations

import pytest

from imagesync.errors import BaseImageError
from imagesync.image.layers.base_contents import CERTIFICATES, AccountFile, BaseContents
from imagesync.pipeline.layer_builder import owner_ids

BASE = BaseContents(
    accounts={
        "etc/passwd": AccountFile(b"root:x:0:0::/root:/bin/sh\napp:x:1234:99::/:/bin/sh\n", 0o644, 0, 0),
        "etc/group": AccountFile(b"root:x:0:\nstaff:x:50:\n", 0o644, 0, 0),
    },
    present=frozenset({CERTIFICATES}),
)


def test_owner_is_found_as_chown_finds_it() -> None:
    found = {
        user: owner_ids(user, BASE, root="base")
        for user in ("1000", "1000:5", "1000:staff", "app", "app:staff", "imagesync:imagesync")
    }
    assert found == {
        "1000": (1000, 1000),
        "1000:5": (1000, 5),
        "1000:staff": (1000, 50),
        "app": (1234, 0),
        "app:staff": (1234, 50),
        "imagesync:imagesync": (1000, 1000),
    }


@pytest.mark.parametrize("user", ["gone", "1000:gone"])
def test_account_that_the_base_lacks_is_refused(user: str) -> None:
    with pytest.raises(BaseImageError, match="called gone"):
        owner_ids(user, BASE, root="base")
