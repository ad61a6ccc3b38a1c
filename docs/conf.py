"""The site: `bash launch/docs.sh` builds it.

Three kinds of pages. Those written by hand are Markdown files here, and take what README and
CONTRIBUTING say from there. Those of the library are written by this file into `_made`, from the
docstrings: one for each module of the analyses, the core and the adapters, one for each other
package. The notebooks are those of `colabs`, run when the site is built.
"""

import importlib
import inspect
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

from tlx import __version__, cli
from tlx.core import public
from tlx.report.export import export
from tlx.report.questions import PARTS, QUESTIONS
from tlx.report.read.selection import listed

HERE = Path(__file__).resolve().parent
MADE = HERE / "_made"
STUDY = HERE.parent / "runs" / "mini" / "records"

project, author, release = "tlx", "The tlx authors", __version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "notebooks/*.py"]
add_module_names = False

html_theme = "furo"
html_title = "tlx"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = True
html_sourcelink_suffix = ""

# a name in backticks links to what it names, where that is on the site
default_role = "py:obj"
autodoc_typehints = "none"  # Args says what is taken, with dimensions
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True


def can_download() -> bool:
    """Whether torchvision's files can be had, which one notebook is about."""
    try:
        urllib.request.urlopen("https://download.pytorch.org/models/", timeout=10).close()
    except urllib.error.HTTPError:
        return True  # an answer
    except OSError:
        return False
    return True


def without_network(app: Sphinx, config: Any) -> None:
    """Leaves that notebook's page without results where they cannot be had, and says so."""
    if config.nb_execution_mode != "off" and not can_download():
        config.nb_execution_excludepatterns = ["notebooks/two_checkpoints.ipynb"]
        print("[tlx] download.pytorch.org cannot be reached: two_checkpoints is not run")


TITLES = {
    "tlx.analyses": "Analyses",
    "tlx.core": "Core",
    "tlx.adapters": "Adapters",
    "tlx.audit": "Audit",
    "tlx.studies": "Studies",
    "tlx.train": "Training",
    "tlx.data": "Data",
    "tlx.models": "Models",
    "tlx.checkpoints": "Checkpoints",
    "tlx.config": "Configs",
    "tlx.records": "Records",
    "tlx.report": "Report",
    "tlx.adapters.nnx": "NNX",
    "tlx.analyses.features.similarity.cca": "CCA",
    "tlx.analyses.features.similarity.cka": "CKA",
    "tlx.analyses.features.similarity.cka_matrix": "CKA matrix",
    "tlx.analyses.features.similarity.rsa": "RSA",
    "tlx.analyses.landscape.modules.pac_bayes": "PAC-Bayes",
    "tlx.core.auc": "AUC",
}
"""The packages in the order of the list of pages, and modules that are no plain word."""

ALONE = ("tlx.analyses", "tlx.core", "tlx.adapters")
"""Those of which each module has a page; of the others, the package has one."""


def modules(package: str) -> list[str]:
    """The public modules of a package, itself first, each package before what is in it."""
    root = HERE.parent / package.replace(".", "/")
    paths = [path.relative_to(HERE.parent).with_suffix("") for path in root.rglob("*.py")]
    names = {".".join(path.parts).removesuffix(".__init__") for path in paths}
    return sorted(name for name in names if "._" not in name)


def title(module: str) -> str:
    """The heading of a module's page."""
    name = module.rpartition(".")[2].replace("_", " ")
    return TITLES.get(module) or f"{name[0].upper()}{name[1:]}"


def members(module: str) -> dict[str, str]:
    """The public names of a module -> how Sphinx describes them: functions first, then types."""
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        return {}  # what it exports is described where it is defined
    kinds = {"function": [], "class": [], "data": []}
    own = set(public.names(module)())
    for name in [name for name in vars(found) if name in own]:
        value = getattr(found, name)
        is_data = not (inspect.isroutine(value) or inspect.isclass(value))
        kinds["data" if is_data else "class" if inspect.isclass(value) else "function"].append(name)
    return {name: kind for kind, names in kinds.items() for name in names}


def described(module: str) -> str:
    """The text of a module and of all that is public in it."""
    lines = [f".. automodule:: {module}", "", f".. currentmodule:: {module}", ""]
    for name, kind in members(module).items():
        lines += [f".. auto{kind}:: {name}", *["   :members:"] * (kind == "class"), ""]
    return "\n".join(["```{eval-rst}", *lines, "```", ""])


def write(path: Path, text: str) -> None:
    """Writes what is not there already, so that an unchanged page is not read again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def make_pages(app: Sphinx) -> None:
    """The pages of the library, and the figures of the default study where there is one."""
    for package in [name for name in TITLES if name.count(".") == 1]:
        first, *others = modules(package)
        for module in (first, *(others if package in ALONE else ())):
            text = f"# {title(module)}\n\n`{module}`\n\n{described(module)}"
            below = [n for n in others if n.rpartition(".")[0] == module]
            if package in ALONE and below:
                text += "\n".join(["", "```{toctree}", *below, "```", ""])
            elif package not in ALONE:
                text += "\n".join(f"\n## `{name}`\n\n{described(name)}" for name in others)
            write(MADE / f"{module}.md", text)
    parser = cli._parser()
    helps = [f"```text\n{parser.format_help()}```"]
    for name, command in parser._subparsers._group_actions[0].choices.items():
        helps.append(f"## tlx {name}\n\n```text\n{command.format_help()}```")
    write(MADE / "cli.md", "\n\n".join(["# Command line", *helps, ""]))
    if STUDY.is_dir():
        export(STUDY, MADE / "figures")


def with_figures(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts what the page of the default study shows and says into the guide to its figures."""
    if docname != "figures":
        return
    records = listed(STUDY) if STUDY.is_dir() else []

    def figure(found: re.Match[str]) -> str:
        name = found[1]
        if not (MADE / "figures" / f"{name}.svg").exists():
            return ""
        caption = PARTS[name].caption(records)
        return f":::{{figure}} _made/figures/{name}.svg\n:alt: {name}\n\n{caption}\n:::"

    def how(found: re.Match[str]) -> str:
        said = QUESTIONS[found[1]]
        paper = f"**In the paper** ({said.finding.source}). {said.finding.text}"
        return f"**How it is computed.** {said.how}\n\n{paper}"

    text = re.sub(r"^% figure (\w+)$", figure, source[0], flags=re.MULTILINE)
    source[0] = re.sub(r"^% how (\w+)$", how, text, flags=re.MULTILINE)


def write_llms(app: Sphinx, error: Exception | None) -> None:
    """`llms.txt` (llmstxt.org): each page with its first sentences, for programs that read."""
    if error or app.builder.name != "html":
        return
    lines = ["# tlx", "", "> What is being transferred in transfer learning? Training and analyses"]
    lines += [
        "> in JAX: pure functions of any parameters and any apply function.",
        "",
        "## Pages",
        "",
    ]
    for page in app.env.toctree_includes[app.config.root_doc]:
        lines += tree_of(app, page, 0)
    Path(app.outdir, "llms.txt").write_text("\n".join([*lines, ""]))


def tree_of(app: Sphinx, page: str, depth: int) -> list[str]:
    """A line for a page and for each one below it."""
    name = app.env.titles[page].astext()
    first = next(iter(app.env.get_doctree(page).findall(is_prose)), None)
    about = f": {beginning(first.astext())}" if first is not None else ""
    lines = [f"{'  ' * depth}- [{name}]({page}.html){about}"]
    for below in app.env.toctree_includes.get(page, ()):
        lines += tree_of(app, below, depth + 1)
    return lines


def is_prose(node: nodes.Node) -> bool:
    """Whether it says more than a name, from the beginning of a sentence on."""
    text = node.astext() if isinstance(node, nodes.paragraph) else ""
    return len(text) > 60 and text[0].isupper() and not text.startswith("Open in Colab")


def beginning(text: str) -> str:
    """Whole sentences of up to 300 characters, or the first one."""
    sentences = re.split(r"(?<=[.:?]) (?=[A-Z])", " ".join(text.split()))
    found = sentences[0]
    for sentence in sentences[1:]:
        if len(found) + len(sentence) >= 300:
            break
        found += f" {sentence}"
    return found


SECTION = re.compile(r"(Numerics|Cost|Memory|References|Interpretation): (\S.*)")
"""A section of a docstring that begins on the line of its name."""


def sections(lines: list[str]) -> list[str]:
    """Docstrings as they are written here, in what Sphinx reads.

    A section that begins on the line of its name is a paragraph, a Markdown table is a table, an
    indented block after a colon is shown as it is, and no sign in prose means anything but itself.
    """
    out: list[str] = []
    rest = list(lines)
    while rest:
        line = rest.pop(0)
        if line.startswith(">>> "):
            out += ["", "**Example.**", "", line]
            while rest and rest[0].strip():
                out.append(rest.pop(0))
        elif found := SECTION.fullmatch(line):
            out += ["", f"**{found[1]}.** {escaped(found[2])}"]
            while rest and rest[0].strip() and not SECTION.fullmatch(rest[0]):
                out.append(escaped(rest.pop(0).strip()))
            out.append("")
        elif line.startswith("|") and rest and rest[0].startswith("|--"):
            rows = [line]
            while rest and rest[0].startswith("|"):
                rows.append(rest.pop(0))
            out += list_table(rows)
        elif line.endswith(":") and len(rest) > 1 and not rest[0] and rest[1].startswith("    "):
            out += [f"{escaped(line)}:", ""]
            while rest and (not rest[0] or rest[0].startswith("    ")):
                out.append(rest.pop(0))
        else:
            out.append(escaped(line))
    return out


def escaped(line: str) -> str:
    """Prose whose bars, stars and underscores are signs; what is in backticks stays."""
    parts = line.split("`")
    parts[::2] = [re.sub(r"([|*]|_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def list_table(rows: list[str]) -> list[str]:
    """A Markdown table, as Sphinx has it."""
    cells = [re.split(r" \| ", row.strip("| ")) for row in rows if "---" not in row]
    out = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in cells:
        out += [f"   {'* -' if not i else '  -'} {escaped(cell)}" for i, cell in enumerate(row)]
    return [*out, ""]


def as_written(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]):
    """Turns the docstring in `lines` into what Sphinx reads."""
    if what == "data" and "\n".join(lines).strip() == inspect.getdoc(found):
        lines.clear()  # what its type says of itself
    # not napoleon's own hook, which reads what stands before a colon as the type of a constant
    kind = "function" if what in ("data", "attribute") else what
    config = Config(napoleon_use_ivar=True, napoleon_attr_annotations=False)
    lines[:] = GoogleDocstring(sections(lines), config, app, kind, name, found, options).lines()


def by_its_place(app: Sphinx, env: Any, node: Any, contnode: Any) -> Any:
    """The page of a name that is exported elsewhere than it is defined."""
    target = node["reftarget"]
    module, _, name = target.rpartition(".")
    if not module.startswith("tlx"):
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    if home == target:
        return None
    domain, builder = env.get_domain("py"), app.builder
    return domain.resolve_xref(env, node["refdoc"], builder, "obj", home, node, contnode)


def is_field(app: Sphinx, what: str, name: str, found: Any, skip: bool, options: Any):
    """Leaves out the fields of tuples, which "Attributes" describes."""
    return True if type(found).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    shutil.rmtree(MADE / "figures", ignore_errors=True)
    app.connect("config-inited", without_network, priority=100)  # before it is read
    app.connect("builder-inited", make_pages)
    app.connect("source-read", with_figures)
    app.connect("autodoc-process-docstring", as_written)
    app.connect("autodoc-skip-member", is_field)
    app.connect("missing-reference", by_its_place)
    app.connect("build-finished", write_llms)
