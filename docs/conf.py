"""Sphinx configuration; `sphinx-build -W docs docs/_build` must stay free of warnings."""

from importlib.metadata import version as version_of

project = "Sojourn"
author = "The Sojourn authors"
copyright = "The Sojourn authors, Apache-2.0"
version = release = version_of("sojourn")

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"Sojourn {version}"
