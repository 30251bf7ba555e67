"""How the documentation is built: strict, offline, from the package itself and the runs under `runs/`."""

import os
import sys
import warnings
from pathlib import Path

from sphinx.deprecation import RemovedInSphinx10Warning

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]
os.environ.setdefault("EMOCIRCUITS_PROFILE", "tiny")
os.environ.setdefault("EMOCIRCUITS_RUN", str(HERE.parent / "runs" / "debug"))
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])

warnings.filterwarnings("ignore", category=RemovedInSphinx10Warning)
(HERE / "_generated" / "static").mkdir(parents=True, exist_ok=True)  # Sphinx looks for it before it is filled

from emocircuits import __version__  # noqa: E402
from emocircuits.provenance import code_version  # noqa: E402


def shapes(annotation: object, config: object) -> str | None:
    """Array types with their shape as they are written: Float[Tensor, "prompt pos"]."""
    if not hasattr(annotation, "dim_str") or not hasattr(annotation, "array_type"):
        return None
    kind = annotation.__name__.split("[")[0]
    return f'``{kind}[{annotation.array_type.__name__}, "{annotation.dim_str}"]``'


project, author, copyright = "emocircuits", "the emocircuits authors", "the emocircuits authors"
version = release = __version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx.ext.mathjax",
    "site_pages",
]
exclude_patterns = ["conf.py", "_ext", "_build", "_generated/parts", "examples"]
root_doc = "index"
language = "en"
smartquotes = False  # two dashes are two dashes

# notebooks: every other .py below this folder is one; outputs are kept until a cell or the package changes
nb_custom_formats = {".py": ["percent_notebooks.read", {}]}
nb_execution_mode = os.environ.get("EMOCIRCUITS_DOCS_EXECUTE", "cache")
nb_execution_cache_path = str(HERE / "_build" / "notebooks" / code_version())
nb_execution_excludepatterns = ["00_twelve_lines.py"]  # minutes of training; a test runs its lines
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_execution_show_tb = True
nb_merge_streams = True
# a function among the settings cannot be kept between builds
suppress_warnings = ["config.cache"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# formulas without a network: the script is copied from the package sphinx-mathjax-offline
mathjax_path = "tex-svg.js"

# signatures
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_display_short_literal_types = True
always_use_bars_union = True
typehints_defaults = "comma"
typehints_formatter = shapes
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True
# names from outside the package have no pages here (a build makes no request), nor have our classes that no
# page describes
nitpick_ignore_regex = [("py:.*", r"(?!emocircuits).*"), ("py:(class|data|obj|exc)", r"emocircuits\..*")]

html_theme = "furo"
html_title = "emocircuits"
html_static_path = ["_static", "_generated/static"]
html_css_files = ["site.css"]
html_extra_path = ["llms.txt"]  # for programs that read the site, at its root
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#7a3e9d", "color-brand-content": "#7a3e9d"},
    "dark_css_variables": {"color-brand-primary": "#cf9bf0", "color-brand-content": "#cf9bf0"},
    "top_of_page_buttons": [],
}
html_last_updated_fmt = None
