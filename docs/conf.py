"""How Sphinx makes the pages. `make docs` writes what it reads; see nbs/docs/04_manual.ipynb."""
import sys
from configparser import ConfigParser
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

settings = ConfigParser()
settings.read(Path(__file__).parent.parent / "settings.ini", encoding="utf-8")
about = settings["DEFAULT"]

project, author, copyright = about["title"], about["author"], about["copyright"]
release = about["version"]
language = "en"
extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["jupyter_execute", "extra"]

nb_execution_mode = "off"
nb_merge_streams = True
nb_number_source_lines = False
myst_enable_extensions = ["attrs_block", "colon_fence", "dollarmath"]
myst_all_links_external = True  # `make docs` has already turned links into addresses of pages, and checked them
myst_heading_anchors = 0  # Sphinx names headings itself
copybutton_exclude = ".linenos, .gp, .go"
copybutton_selector = "div.highlight-python pre, div.highlight-ipython3 pre, div.highlight-sh pre, div.highlight-default pre"

html_theme = "furo"
html_title = project
html_theme_options = {"light_css_variables": {"color-code-background": "#f5f6f8"}}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/icon.svg"
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
templates_path = ["templates"]
html_sidebars = {"**": ["sidebar/brand.html", "sidebar/search.html", "sidebar/scroll-start.html", "sidebar/experiments.html", "sidebar/navigation.html", "sidebar/scroll-end.html"]}
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"


def write_inline(self, node) -> None:
    """Write an equation within a line as MathML, which browsers draw without a script."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def write_display(self, node) -> None:
    """Write an equation on a line of its own as MathML."""
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def mend_for_all(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Let keys reach what scrolls sideways, and say which level the headings of the sidebar have."""
    body = context.get("body", "").replace("<pre", '<pre tabindex="0"').replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
    context["body"] = body.replace(' aria-label="Toggle hidden content"', "")
    context["furo_navigation_tree"] = context.get("furo_navigation_tree", "").replace('role="heading"', 'role="heading" aria-level="2"')


def name_landmarks(app: Sphinx, error: Exception | None) -> None:
    """Give the parts beside the text a name, which a screen reader reads out."""
    for page in [*app.env.found_docs, "search", "genindex"] if error is None else []:
        file = Path(app.outdir, f"{page}.html")
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            named = text.replace('<aside class="sidebar-drawer"', '<aside aria-label="All pages" class="sidebar-drawer"').replace('<aside class="toc-drawer', '<aside aria-label="On this page" class="toc-drawer')
            if named != text:
                file.write_text(named, encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (write_inline, None), (write_display, None))
    app.connect("html-page-context", mend_for_all, priority=900)
    app.connect("build-finished", name_landmarks)
