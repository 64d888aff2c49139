from __future__ import annotations

import pytest

from imagesync.errors import UsageError
from imagesync.pipeline.context import Context


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("0", 0), ("253402300799", 253_402_300_799)])
def test_source_date_epoch_is_a_number_of_seconds(text: str, seconds: int | None) -> None:
    assert Context(environ={"SOURCE_DATE_EPOCH": text}).source_date_epoch == seconds


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "253402300800", "9" * 5000, "\u00b2", " 1"])
def test_source_date_epoch_that_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        _ = Context(environ={"SOURCE_DATE_EPOCH": text}).source_date_epoch
