from __future__ import annotations

import pytest

from tests.commands import CommandLine
from tests.conftest import MakeEnvironment


@pytest.mark.parametrize("reference", ["Bad Tag", "Upper:1", "name@sha256:" + "0" * 64, "a:b:c", ""])
def test_invalid_tag_is_refused_before_the_build(
    cli: CommandLine, environment: MakeEnvironment, reference: str
) -> None:
    # Without an engine: nothing has been started.
    at = cli.with_environ(VIRTUAL_ENV=environment().prefix, DOCKER_HOST="tcp://127.0.0.1:1")
    finished = at.run("build", "--tag", "good:1", "--tag", reference)
    assert finished.returncode == 2
    assert f"error: tag: {reference!r} can't be an image's name." in finished.stderr
