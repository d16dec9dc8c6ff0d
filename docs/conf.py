"""How Sphinx builds the site: `make docs`."""

import inspect
import re
import shutil
import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parent.resolve()
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_ext")]

import keras_vit  # noqa: E402

project = "keras_vit"
author = copyright = "The keras_vit authors"
version = release = keras_vit.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "directives",
]
exclude_patterns = ["_ext", "_static"]
suppress_warnings = ["myst.domains", "config.cache"]

# Markdown. Anchors are those of GitHub, so that links work in both places.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the outputs are stored; tests/test_notebooks.py keeps them current

smartquotes_action = "D"  # dashes alone: "token" is code

# Docstrings. Their backticks hold code, which links to what it names where the site has a page.
default_role = "py:obj"
add_module_names = False
autosummary_generate = False  # tables of links alone
autodoc_typehints = "none"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Returns", ("Call arguments", "params_style")]

html_theme = "pydata_sphinx_theme"
html_title = "keras_vit"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 9,
    "show_prev_next": False,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without others below them have nothing to show at the side.
alone = ("start", "checkpoints", "training", "interpret", "export", "benchmarks")
html_sidebars = {page: [] for page in alone}
# The address of the repository stands in pyproject.toml, once there is one.
settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["keras_vit"]
repository = settings["repository"]
if repository:
    html_theme_options["github_url"] = repository
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def own_signature(app, kind, name, object, options, signature, returns):
    """That of a class's constructor, which decorators and metaclasses hide from autodoc."""
    return (str(inspect.signature(object)), returns) if kind == "class" else None


def spaced(app, kind, name, object, options, lines):
    """`Block`s: reStructuredText has code end before a space, or an escaped one."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = re.sub(r"(`[^`]+`)(\w?)", lambda x: x[1] + (x[2] and f"\\ {x[2]}"), line)


def copy_notebooks(app):
    """Puts the notebooks where Sphinx looks for pages; git ignores the copies."""
    folder = DOCS / "notebooks"
    folder.mkdir(exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not (folder / path.name).exists() or (
            path.read_bytes() != (folder / path.name).read_bytes()
        ):
            shutil.copyfile(path, folder / path.name)


def setup(app):
    app.add_config_value("repository", repository, "html")
    app.connect("autodoc-process-signature", own_signature)
    app.connect("autodoc-process-docstring", spaced)
    app.connect("config-inited", lambda app, config: copy_notebooks(app))
