from __future__ import annotations

import pytest

from imagesync.errors import UsageError
from imagesync.pipeline.context import Context
from imagesync.settings.model import Settings


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("0", 0), ("253402300799", 253_402_300_799)])
def test_source_date_epoch_is_a_number_of_seconds(text: str, seconds: int | None) -> None:
    assert Context(environ={"SOURCE_DATE_EPOCH": text}).source_date_epoch == seconds


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "253402300800", "9" * 5000, "\u00b2", " 1"])
def test_source_date_epoch_that_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        _ = Context(environ={"SOURCE_DATE_EPOCH": text}).source_date_epoch


@pytest.mark.parametrize("names", [(), ("linux/arm64",), ("linux/arm64", "linux/arm64")])
def test_platform_that_is_named_twice_is_one(names: tuple[str, ...]) -> None:
    Context(Settings(platforms=names)).check_platforms()


def test_two_platforms_are_refused_with_their_origin_and_what_takes_them() -> None:
    names = ("linux/amd64", "linux/arm64")
    context = Context(Settings(platforms=names, origins={"platforms": "imagesync.toml"}))
    with pytest.raises(UsageError, match=r"imagesync\.toml names linux/amd64 and linux/arm64\.") as caught:
        context.check_platforms()
    assert caught.value.message.startswith("This is for one")


def test_several_platforms_make_a_context_for_each_and_one_makes_none() -> None:
    context = Context(Settings(platforms=("linux/arm64", "linux/amd64", "linux/arm64"), strict=True))
    contexts = context.for_platforms()
    assert [str(each.platform) for each in contexts] == ["linux/arm64", "linux/amd64"]
    assert all(each.settings.strict for each in contexts)
    one = Context(Settings(platforms=("linux/arm64", "linux/arm64")))
    assert one.for_platforms() == (one,)
