import re
from importlib.metadata import version
from importlib.resources import files

import hatch_versioned
import lane
import outer
import setuptools_versioned
import setuptools_versioned._version

DIRTY = r"1\.2\.4\.dev1\+g[0-9a-f]+\.d[0-9]{8}"

assert hatch_versioned.edited, "hatch-versioned: what isn't committed is missing"
assert setuptools_versioned.edited, "setuptools-versioned: what isn't committed is missing"
assert re.fullmatch(DIRTY, version("hatch-versioned")), version("hatch-versioned")
assert re.fullmatch(DIRTY, version("setuptools-versioned")), version("setuptools-versioned")
assert setuptools_versioned._version.__version__ == version("setuptools-versioned")
assert (files(setuptools_versioned) / "data.txt").read_text().startswith("tracked")
assert outer.depth == 2, "outer: the submodule is missing"
assert lane.trees == ["lime", "elm"], "lane: its data is missing"
