"""The site that `make docs` builds: warnings are errors, and no network is needed."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from gradconv import __version__

project = "gradconv"
author = "The gradconv developers"
copyright = "the gradconv developers, under the MIT licence"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 3
smartquotes = False  # `--kernel` has two dashes

# Docstrings are numpydoc: types stand in their sections, and a single backtick is a name of the
# code, linked where there is an entry for it.
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"gradconv {release}"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

# A bar of a docstring is an absolute value or a norm, never a substitution.
BAR = re.compile(r"(``.*?``|`[^`]*`|\s\|\s)|\|")
COLON = "\N{RATIO}"
LINK_OUT = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)\)")


def offer_files(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn links to files of the repository, outside this folder, into downloads."""
    if Path(app.env.doc2path(docname)).suffix == ".md":
        source[0] = LINK_OUT.sub(_download, source[0])


def _download(link: re.Match[str]) -> str:
    """A role's text takes no backticks of its own."""
    return f"{{download}}`{link[1].replace('`', '')} <{link[2]}>`"


def hide_colon(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Keep napoleon from reading the summary of a property, up to a colon, as its type."""
    if what == "property" and lines:
        lines[0] = lines[0].replace(":", COLON)


def mend_text(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Escape the bars of a docstring, but for those in literal text and examples."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = BAR.sub(lambda found: found[1] or r"\|", line.replace(COLON, ":"))


def set_dashes(app: Sphinx, doctree: nodes.document) -> None:
    """Set the dash before the description of a parameter or result; smart quotes are off."""
    for text in list(doctree.findall(nodes.Text)):
        if text.startswith(" -- "):
            text.parent.replace(text, nodes.Text(text.replace(" -- ", " – ", 1)))


def show_commands(app: Sphinx, context: object, lines: list[str]) -> None:
    """Show the commands in the help of a command as they stand there."""
    shown: list[str] = []
    for line in lines:
        if line.startswith("| "):
            if not shown or not shown[-1].startswith("   "):
                shown += [".. code-block:: text", ""]
            shown.append("   " + line[2:])
        else:
            shown.append(line)
    lines[:] = shown


def setup(app: Sphinx) -> None:
    """Register what this file adds to Sphinx."""
    # napoleon has the priority 500
    app.connect("autodoc-process-docstring", hide_colon, priority=400)
    app.connect("autodoc-process-docstring", mend_text, priority=600)
    app.connect("doctree-read", set_dashes)
    app.connect("sphinx-click-process-description", show_commands)
    app.connect("source-read", offer_files)
