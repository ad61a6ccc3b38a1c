"""The house rules that a program can see: imports, sizes, headers, paths, notebooks."""

import ast
import graphlib
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "tlx").rglob("*.py"))
PARTS = sorted({path.relative_to(ROOT / "tlx").parts[0].removesuffix(".py") for path in MODULES})
CONFIGS = sorted((ROOT / "configs").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))

TENSORFLOW = {"tensorflow"}
TRAINING = {"flax", "optax", "orbax", "grain", "haiku", "equinox", "ml_collections", "torch"}
DRAWING = {"matplotlib"}
# what importing a part must not load, directly or through anything else
UNLOADED = {
    "__init__": {"jax", "jaxlib", "numpy"} | TRAINING | TENSORFLOW | DRAWING,
    "core": TRAINING | TENSORFLOW | DRAWING,
    "analyses": TRAINING | TENSORFLOW | DRAWING,
    "records": {"jax", "jaxlib"} | TRAINING | TENSORFLOW | DRAWING,
    # drawing loads when something is drawn
    "report": {"jax", "jaxlib"} | TRAINING | TENSORFLOW | DRAWING,
}
# what a part may import from outside, where design allows it a few packages only
ALLOWED = {
    "core": {"jax", "jaxtyping", "lazy_loader", "numpy"},
    "analyses": {"jax", "jaxtyping", "lazy_loader", "matfree", "numpy", "scipy", "threadpoolctl"},
    "records": {"numpy"},
    "report": {"matplotlib", "numpy"},
}
# what the package imports without: its extras, and the frameworks that only adapters name
OPTIONAL = {"equinox", "haiku", "matplotlib", "mlxtend", "sklearn", "tensorflow_datasets", "torch"}
OPTIONAL |= {"submitit", "tensorboardX", "wandb"}
NEEDS_OPTIONAL = {"tlx.adapters.equinox", "tlx.adapters.haiku"}

# Imports the modules of one part, and forgets all of tlx where another package begins, so that no
# package leans on another's having been imported. Within one, no circle of files is enough.
IMPORT_EACH = """
import importlib, json, sys
names, blocked = json.loads(sys.argv[1])
for name in blocked:
    sys.modules[name] = None  # so that importing it fails
package = None
for name in names:
    if name.rpartition(".")[0] != package:  # each of one package begins with its __init__
        package = name.rpartition(".")[0]
        for known in [k for k in sys.modules if k == "tlx" or k.startswith("tlx.")]:
            del sys.modules[known]
    importlib.import_module(name)
loaded = {k.partition(".")[0] for k, module in sys.modules.items() if module}
print(json.dumps(sorted(loaded)))
"""


def module_name(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_of(part: str) -> list[Path]:
    """The files of one top-level module or package of tlx; "__init__" is tlx itself."""
    return [p for p in MODULES if p.relative_to(ROOT / "tlx").parts[0] in (part, f"{part}.py")]


def sources() -> list[Path]:
    """The files that are in the repository or would be: not what git ignores."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this copy of the sources is not a git repository")
    return [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file() and name]


def outside_imports(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports, the standard library and tlx left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str | None] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for top in {str(name).partition(".")[0] for name in names}:
            if top not in sys.stdlib_module_names and top != "tlx":
                yield top


def import_each(names: Iterable[str], blocked: Iterable[str] = ()) -> set[str]:
    """Imports modules in a process of their own; returns the top-level packages it has loaded."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            IMPORT_EACH,
            json.dumps([*map(list, (names, blocked))]),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("part", sorted(UNLOADED))
def test_importing_a_part_loads_little(part: str):
    loaded = import_each(module_name(path) for path in modules_of(part))
    unwanted = loaded & UNLOADED[part]
    assert not unwanted, f"importing tlx.{part} loads {sorted(unwanted)}"


def test_each_other_module_imports_alone_and_without_extras():
    others = [
        module_name(path)
        for part in PARTS
        for path in modules_of(part)
        if part not in UNLOADED and module_name(path) not in NEEDS_OPTIONAL
    ]
    assert not import_each(others, blocked=OPTIONAL | TENSORFLOW) & (OPTIONAL | TENSORFLOW)


def test_adapters_of_other_frameworks_import_alone():
    import_each(sorted(NEEDS_OPTIONAL))


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_pure_parts_import_few_packages(part: str):
    found = {
        f"{path.name}: {top}"
        for path in modules_of(part)
        for top in outside_imports(path)
        if top not in ALLOWED[part]
    }
    assert not found


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    known = {module_name(other) for other in MODULES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= inner or {node.module}
    return found & known


def test_no_circle_of_files():
    """Imports in functions and for types included, so that every file can be read by itself."""
    graph = {module_name(path): imported(path) for path in MODULES}
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_files_are_short():
    lines = {module_name(path): len(path.read_text().splitlines()) for path in MODULES}
    del lines["tlx.records.results"]  # a table, line by line
    assert {n: count for n, count in lines.items() if count > 400} == {}


def test_caches_are_bounded():
    """A registry is no cache; a function whose arguments are few may keep them all."""
    few = {"tlx.data.sources.digits", "tlx.data.sources.mnist5k"}  # splits
    held = [
        f"{module_name(path)}.{node.name}"
        for path in MODULES
        if module_name(path) not in few and "studies" not in path.parts  # losses, of which few
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.args.args
        if "functools.cache" in map(ast.unparse, node.decorator_list)
    ]
    assert not held, f"give {held} a bound: functools.lru_cache(maxsize=…)"


def test_nothing_is_called_utils():
    banned = {"util", "utils", "helper", "helpers", "misc", "common"}
    assert not [n for n in map(module_name, MODULES) if banned & set(n.split("."))]


CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def test_contributing_names_files_that_are_there():
    """Its walks go through real files; NAME stands for one that is to be made."""
    named = set(re.findall(r"`((?:tlx|tests|launch|configs)/[^`\s]*)`", CONTRIBUTING.read_text()))
    assert len(named) > 20
    assert not [name for name in named if "NAME" not in name and not any(ROOT.glob(name))]


def public_names(path: Path) -> Iterator[str]:
    """The names of a file, and of its public functions, classes and their arguments."""
    yield module_name(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
            if isinstance(node, ast.FunctionDef):
                yield from (a.arg for a in node.args.args + node.args.kwonlyargs)


def test_public_names_have_the_terms_of_the_table():
    """No name holds a word from the last column of the table of terms in CONTRIBUTING.md."""
    rows = re.findall(r"^\|[^|]+\|[^|]+\|([^|]+)\|$", CONTRIBUTING.read_text(), re.MULTILINE)
    table = rows[next(i for i, cell in enumerate(rows) if cell.strip() == "not") + 2 :]
    banned = {word.strip().replace(" ", "_") for cell in table for word in cell.split(",")}
    assert {"bump", "rebasin", "grid_search"} <= banned
    words = re.compile(rf"(?:^|[._])(?:{'|'.join(sorted(banned))})(?:$|[._])")
    snake = re.compile(r"(?<=[a-z])(?=[A-Z])")
    held = {
        f"{module_name(path)}: {name}"
        for path in MODULES
        for name in public_names(path)
        if words.search(snake.sub("_", name).lower())
    }
    assert not held


def public_functions(path: Path) -> Iterator[ast.FunctionDef]:
    """The public functions of a file, and the public methods of its public classes."""
    body = list(ast.parse(path.read_text()).body)
    while body:
        node = body.pop()
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            body.extend(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("part", ["core", "analyses"])
def test_long_signatures_of_pure_parts_are_described(part: str):
    """Ruff sees that a docstring is there; here, that it has sections where one line cannot do."""
    missing = []
    for path in modules_of(part):
        for node in public_functions(path):
            text = ast.get_docstring(node) or ""
            names = [a.arg for a in node.args.args + node.args.kwonlyargs if a.arg != "self"]
            wanted = ["Args:", "Returns:"] if len(names) > 4 else []
            if "Args:" in text or wanted:
                wanted += names
            lacking = [name for name in wanted if name not in text]
            if lacking and not path.name.startswith("_"):
                missing.append(f"{module_name(path)}.{node.name}: {', '.join(lacking)}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_header_is_whole(path: Path):
    header = ast.get_docstring(ast.parse(path.read_text())) or ""
    for word in ("Question", "Command", "Cost", "Expected"):
        assert re.search(rf"^{word}\b", header, re.MULTILINE), f"no line starts with {word}"
    assert f"--config={path.relative_to(ROOT)}" in header
    assert not re.search(r"\{|TODO|TBD|…", header), "a figure is still to be filled in"


def test_no_path_of_one_machine():
    # pieces, so that this file does not hold what it looks for
    folders = "|".join(["work", "root", r"home/\w+", r"Users/\w+", "content"])
    pattern = re.compile(rf"(?<![\w.:/~$}}\-])/(?:{folders})(?![\w\-])")
    found = []
    for path in sources():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(lines, 1)
            if pattern.search(line)
        ]
    assert not found, "\n".join(found)


def test_the_root_holds_nothing_else():
    wanted = {
        "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff",
        "CONTRIBUTING.md", ".gitignore", ".pre-commit-config.yaml", ".ci", "tlx", "configs",
        "tests", "colabs", "docs", "launch", ".github",
    }  # fmt: skip
    assert {path.relative_to(ROOT).parts[0] for path in sources()} <= wanted


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_stripped(path: Path):
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_and_its_text_agree(path: Path):
    jupytext = pytest.importorskip("jupytext")
    cells = [
        [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
        for source in (path, path.with_suffix(".py"))
    ]
    assert cells[0] == cells[1], f"run: jupytext --sync {path.relative_to(ROOT)}"


BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/)\n"
    "The badge leads to Colab, where *File > Upload notebook* opens this file.\n"
)
"""There is no public address of the notebooks yet; once there is, it stands here and in each."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_begins_with_its_title_and_the_badge(path: Path):
    cells = json.loads(path.read_text())["cells"]
    first, install = ("".join(cell["source"]) for cell in cells[:2])
    title, rest = first.split("\n\n", 1)
    assert title.startswith("# ")
    assert rest.startswith(BADGE)
    assert re.search(r"\b(seconds|minutes?)\b", rest), "say how long it takes"
    assert "`SOURCE`" in install


@pytest.mark.parametrize("part", ["core", "analyses", "adapters"])
def test_completion_offers_what_a_module_is_for(part: str):
    """No jax, np or checks under tab, and all that a module defines."""
    for path in modules_of(part):
        if path.name.startswith("_"):
            continue
        offered = set(dir(importlib.import_module(module_name(path))))
        defined = {
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        }
        assert defined <= offered, path
        assert not {n for n in offered if n.startswith("_")}, path
        assert not {"jax", "jnp", "np", "Any", "checks", "functools", "Array"} & offered, path
