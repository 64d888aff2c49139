"""The public names of the package, pinned: a change of them is a decision and no accident."""

from __future__ import annotations

import pytest

import imagesync


def test_the_public_names() -> None:
    assert imagesync.__all__ == [
        "DockerCluster",
        "ImagesyncError",
        "MismatchWarning",
        "Session",
        "Settings",
        "SwarmCluster",
        "check",
        "connect",
        "open_session",
        "sync",
    ]
    for name in imagesync.__all__:
        assert getattr(imagesync, name).__name__ == name


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sessions'"):
        imagesync.sessions  # noqa: B018
