from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from imagesync.image.layers.grouping import FEWEST_LAYERS, LARGE, Package, group

NAMES = st.text("abcdefghij-", min_size=1, max_size=8)
SIZES = st.one_of(st.integers(1, 2 * LARGE), st.integers(LARGE, 20 * LARGE))
PACKAGES = st.lists(
    st.builds(
        Package,
        name=NAMES,
        kind=st.sampled_from(
            ["conda", "pip", "pip", "pip", "local", "code", "files", "generated", "interpreter"]
        ),
        size=SIZES,
        is_native=st.booleans(),
    ),
    min_size=1,
    max_size=60,
    unique_by=lambda package: package.name,
)
BUDGETS = st.integers(FEWEST_LAYERS, 90)


def sizes_like(size: int) -> st.SearchStrategy[int]:
    """Return sizes between the same thresholds: a package that crosses one changes its place."""
    upper = LARGE << (size // LARGE).bit_length()
    return st.integers(upper // 2 if upper > LARGE else 1, upper - 1)


@given(packages=PACKAGES, budget=BUDGETS, conda=st.booleans())
def test_layers_hold_every_package_once_within_the_budget(
    packages: list[Package], budget: int, conda: bool
) -> None:
    layers = group(packages, budget=budget, conda=conda)
    held = [package for _, found in layers for package in found]
    assert sorted(held, key=lambda package: package.name) == sorted(packages, key=lambda each: each.name)
    assert len(layers) <= budget


@given(packages=PACKAGES, budget=BUDGETS, data=st.data())
def test_new_version_of_a_package_changes_only_its_own_layer(
    packages: list[Package], budget: int, data: st.DataObject
) -> None:
    chosen = data.draw(st.sampled_from(packages))
    size = data.draw(sizes_like(chosen.size))
    other = [replace(p, size=size) if p is chosen else p for p in packages]
    before = [{p.name for p in found} for _, found in group(packages, budget=budget, conda=True)]
    after = [{p.name for p in found} for _, found in group(other, budget=budget, conda=True)]
    assert before == after


@given(packages=PACKAGES, budget=BUDGETS, name=NAMES)
def test_small_package_that_is_added_changes_one_layer(
    packages: list[Package], budget: int, name: str
) -> None:
    assume(name not in {package.name for package in packages})
    more = [*packages, Package(name, "pip", size=1)]
    before = {frozenset(p.name for p in found) for _, found in group(packages, budget=budget, conda=False)}
    after = {frozenset(p.name for p in found) for _, found in group(more, budget=budget, conda=False)}
    assert len(after - before) == 1


@given(packages=PACKAGES, budget=BUDGETS, data=st.data())
def test_order_of_packages_does_not_count(packages: list[Package], budget: int, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(packages))
    assert group(shuffled, budget=budget, conda=True) == group(packages, budget=budget, conda=True)
