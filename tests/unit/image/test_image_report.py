"""Reports on images, from their documents alone, and their page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesync.image.image_report import ImageReport, image_report
from imagesync.image.report_page import report_page
from imagesync.image.treemap import Rectangle, treemap
from imagesync.image_layout import LAYER_CONTENTS, Label
from imagesync.inventory.inventory import Entry, Inventory, to_text
from imagesync.registry.config import ContainerConfig, History, ImageConfig
from imagesync.registry.manifest import LAYER_GZIP, MANIFEST, Descriptor, Index

DIGEST = f"sha256:{'1' * 64}"


def layer(size: int, contents: object = None) -> Descriptor:
    annotations = {} if contents is None else {LAYER_CONTENTS: json.dumps(contents)}
    return Descriptor(LAYER_GZIP, DIGEST, size, annotations)


def report(*, labels: dict[str, str] | None = None, history: tuple[History, ...] = ()) -> ImageReport:
    deviation = {
        "name": "pywin32",
        "local": "306",
        "locked": "",
        "level": "exact",
        "reason": "<b>no build</b>",
    }
    inventory = Inventory("linux-x86_64", (Entry("numpy", "2.0"), Entry("python", "3.12.3", kind="python")))
    known = {
        Label.ENVIRONMENT_HASH: DIGEST,
        Label.DEVIATIONS: json.dumps([deviation]),
        Label.INVENTORY: to_text(inventory),
        "org.opencontainers.image.base.name": "ubuntu:24.04",
    }
    steps = history or (
        History(created_by="/bin/sh -c #(nop) ADD file:1 in / "),
        History(created_by="ENV A=1", empty_layer=True),
        History(created_by="imagesync: pip native: numpy"),
        History(created_by="imagesync: records"),
    )
    return image_report(
        "team/env:1",
        digest=DIGEST,
        config=ImageConfig(
            "linux/amd64", container=ContainerConfig(labels={**known, **(labels or {})}), history=steps
        ),
        layers=[layer(1000), layer(3000, {"numpy": 2900}), layer(10)],
        referrers=Index((Descriptor(MANIFEST, DIGEST, 1, artifact_type="application/vnd.cyclonedx+json"),)),
    )


def test_layers_have_an_owner_and_a_description() -> None:
    found = report()
    assert [(each.owner, each.description) for each in found.layers] == [
        ("base", "ADD file:1 in /"),
        ("environment", "pip native: numpy"),
        ("environment", "records"),
    ]
    assert found.layers[1].contents == {"numpy": 2900}
    assert (found.size, found.size_of("base"), found.size_of("environment")) == (4010, 1000, 3010)


def test_steps_of_the_shipped_dockerfile_are_named() -> None:
    history = (
        History(created_by="Imported from -"),
        History(created_by="RUN /bin/sh -c /mnt/tools/uv --quiet pip install --python /opt/env/bin/python"),
        History(created_by="COPY environment.json /opt/env/share/imagesync/environment.json # buildkit"),
    )
    found = report(history=history).layers
    assert [each.description for each in found] == ["Imported from -", "packages of indexes", "inventory"]
    assert [each.owner for each in found] == ["base", "environment", "environment"]


def test_image_of_another_tool_is_described_as_far_as_it_goes() -> None:
    found = image_report(
        "other:1", digest=DIGEST, config=ImageConfig("linux/amd64"), layers=[layer(5, ["wrong"])]
    )
    assert found.inventory is None
    assert found.layers[0].owner == "base"
    assert found.layers[0].contents == {}
    document = json.loads(json.dumps(found.to_dict()))
    assert (document["packages"], document["deviations"], document["attestations"]) == ([], [], [])


def test_labels_of_another_form_are_left_out() -> None:
    found = report(labels={Label.DEVIATIONS: '[{"name": 1}]', Label.INVENTORY: "garbage"})
    assert found.deviations == ()
    assert found.inventory is None


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in {"src", "href", "action"}]


def test_page_loads_nothing_and_shows_text_as_text() -> None:
    text = report_page(report())
    page = _Page()
    page.feed(text)
    assert page.links == []
    assert not {"script", "link", "img", "iframe", "b"} & set(page.tags)
    assert "url(" not in text
    assert "&lt;b&gt;no build&lt;/b&gt;" in text
    assert text.count('class="box ') == 4
    assert "numpy" in text
    assert "application/vnd.cyclonedx+json" in text


def test_boxes_of_the_page_fill_the_map() -> None:
    text = report_page(report())
    places = re.findall(r"left:([\d.]+)%;top:([\d.]+)%;width:([\d.]+)%;height:([\d.]+)%", text)
    areas = [float(width) * float(height) for _, _, width, height in places]
    assert sum(areas) == pytest.approx(100 * 100, rel=0.01)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60))
def test_treemap_gives_each_size_its_area_inside(sizes: list[int]) -> None:
    sizes.sort(reverse=True)
    area = Rectangle(0, 0, 16, 9)
    found = treemap(sizes, area)
    scale = 16 * 9 / sum(sizes)
    for size, rectangle in zip(sizes, found, strict=True):
        assert rectangle.width * rectangle.height == pytest.approx(size * scale, rel=1e-6, abs=1e-9)
        assert rectangle.x >= -1e-6
        assert rectangle.y >= -1e-6
        assert rectangle.x + rectangle.width <= 16 + 1e-6
        assert rectangle.y + rectangle.height <= 9 + 1e-6
