from __future__ import annotations

import json

import pytest

from imagesync.cli.output import print_json


def test_json_keeps_characters_beyond_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"prefix": "/home/müller"})
    out = capsys.readouterr().out
    assert "müller" in out
    assert json.loads(out) == {"prefix": "/home/müller"}
