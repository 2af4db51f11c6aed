"""
The documentation's site, which ``make docs`` builds into ``build/docs``.

Its pages are the Markdown files as a forge shows them, of the whole repository: links between them are paths of files.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import tasks_bridge  # noqa: E402

project = "tasks-bridge"
copyright = "the tasks-bridge contributors, BSD-3-Clause"  # noqa: A001 - Sphinx's name
version = release = tasks_bridge.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "_extensions.site"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "examples/**.md", "changelog.d/README.md"]
exclude_patterns = [".*", "build", "dist", "**/.data", "**/node_modules"]
html_additional_pages = {"index": "moved.html"}  # the site's first page is docs/index.html
templates_path = ["_templates"]
default_role = "literal"  # a name in single backticks, in docstrings

# -- pages -------------------------------------------------------------------------------------------------------------

myst_heading_anchors = 6  # as a forge makes them
suppress_warnings = [
    "myst.header",  # a page of guarantees begins with its third level
    "toc.not_included",  # said in words that help by _extensions/site.py
]

# -- docstrings --------------------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# -- looks -------------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = "tasks-bridge"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
