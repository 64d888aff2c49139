"""Sphinx's configuration: the pages of this folder, and the reference of the Python API from its docstrings.

``make docs`` builds them into ``.work/docs``; ``make lint`` builds them too, with warnings as errors.
"""

from __future__ import annotations

import imagesync

project = "imagesync"
author = "The imagesync developers"
release = version = imagesync.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"

html_theme = "furo"
html_title = f"imagesync {release}"
html_copy_source = False

# Links to headings, with the anchors that GitHub gives them.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
napoleon_google_docstring = False
