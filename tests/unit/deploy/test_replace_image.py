"""Another image in a file: all else stays as it is, to the last space."""

from __future__ import annotations

import difflib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imagesync.deploy.replace_image import update_image
from imagesync.errors import UsageError

NAME = "registry.example.com/team/env"
OLD, NEW = f"{NAME}:4f0c21d9a8b7e6f5", f"{NAME}@sha256:{'12' * 32}"

COMPOSE = f"""\
# Our stack.   Mind the spaces!
services:
    db: {{image: 'postgres:17', ports: [ "5432:5432" ]}}
    worker:   # Dask
        image:    '{OLD}'    # from CI
        command: >
            dask worker
            tcp://scheduler:8786
        environment: {{ A: yes, B: 0o17, C: "x\\ty" }}


x: ~
"""


def changed_lines(before: str, after: str) -> list[str]:
    diff = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line for line in diff if line.startswith("+ ")]


def test_update_changes_only_the_line_of_the_image() -> None:
    after = update_image(COMPOSE, NEW)
    assert changed_lines(COMPOSE, after) == [f"+         image:    '{NEW}'    # from CI\n"]
    assert after == COMPOSE.replace(OLD, NEW)


def test_update_of_a_current_file_changes_nothing() -> None:
    after = update_image(COMPOSE, NEW)
    assert update_image(after, NEW) == after


@pytest.mark.parametrize(
    "text",
    [
        "image: {}\n",
        'image: "{}"\n',
        "image: &env {}\nother: *env\n",
        'image: &env "{}"\nother: *env\n',
        "image: !!str {}\n",
        "? image\n: {}\n",
        "jobs:\n- image: {}\n- image: {} # two\n---\nimage: {}\n",
        "list:\n  - {}\n",
        "variables:\n  DASK_IMAGE: {}\n",
        '{{\n\t"image":\t"{}"\n}}\n',
        "image: {}",
        "image: {}\r\nb: 1\r\n",
        "%YAML 1.2\n---\nimage: {}\n...\n",
        "\ufeffimage: {}\n",
    ],
)
def test_update_finds_the_image_in_any_yaml_notation(text: str) -> None:
    places = text.count("{}")
    before = text.format(*[OLD] * places)
    assert update_image(before, NEW) == text.format(*[NEW] * places)


def test_update_changes_repository_and_tag_of_a_chart() -> None:
    text = f"worker:\n  image:\n    repository: {NAME}  # ours\n    tag: 4f0c21d9\n    pullPolicy: Always\n"
    after = update_image(text, f"{NAME}@sha256:{'1' * 63}a")
    assert after == text.replace(f"{NAME} ", f"{NAME}@sha256 ").replace("4f0c21d9", "1" * 63 + "a")
    # Digits that would be a number to YAML.
    after = update_image(after, f"{NAME}@sha256:{'1' * 62}e5")
    assert yaml.safe_load(after)["worker"]["image"]["tag"] == "1" * 62 + "e5"
    assert yaml.safe_load(update_image(after, NEW))["worker"]["image"]["tag"] == "12" * 32


def test_update_reads_escaped_json() -> None:
    text = json.dumps([{"image": OLD}]).replace("/", "\\/")
    assert json.loads(update_image(text, NEW)) == [{"image": NEW}]


def test_other_repository_is_updated_only_with_replacing() -> None:
    with pytest.raises(UsageError, match=f"has no image {NAME}; it has postgres:17, ghcr.io/dask/dask:1"):
        update_image("a: {image: 'postgres:17'}\nb: {image: 'ghcr.io/dask/dask:1'}\n", NEW)
    text = "a: {image: 'ghcr.io/dask/dask:1'}\nb: {image: 'ghcr.io/dask/dask:2'}\n"
    assert update_image(text, NEW, replacing="ghcr.io/dask/dask") == (
        f"a: {{image: '{NEW}'}}\nb: {{image: '{NEW}'}}\n"
    )
    assert update_image(text, NEW, replacing="ghcr.io/dask/dask:2") == (
        f"a: {{image: 'ghcr.io/dask/dask:1'}}\nb: {{image: '{NEW}'}}\n"
    )


@pytest.mark.parametrize("text", ["", "a: 1\n", f"# image: {OLD}\n", f"other: {NAME}\n", f"a: see {OLD}\n"])
def test_update_of_a_file_without_the_image_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"has no image {NAME}"):
        update_image(text, NEW)


@pytest.mark.parametrize("text", ["a: [1\n", "a: 1\n b: 2\n", "\t- {"])
def test_update_of_a_malformed_file_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"the file, line \d+: it is neither YAML nor JSON"):
        update_image(text, NEW)


@given(
    before=st.lists(st.sampled_from(["# note\n", "\n", "a: 'b'\n", f"url: {OLD}\n"]), unique=True),
    spaces=st.text(" ", min_size=1, max_size=6),
    quote=st.sampled_from(["", "'", '"']),
    after=st.sampled_from(["", "  # x", "   "]),
)
def test_update_keeps_spaces_quotes_and_comments(
    before: list[str], spaces: str, quote: str, after: str
) -> None:
    text = f"{''.join(before)}image:{spaces}{quote}{OLD}{quote}{after}\n"
    assert update_image(text, NEW) == text.replace(OLD, NEW)
