"""The package as a whole: what `import vizlib` loads, who imports whom, what the wheel carries."""

import ast
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vizlib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# A room may import from those before it, and from itself.
ROOMS = (
    "tokens", "running", "tiny_imagenet", "shortcuts", "data", "classifier", "types", "attention",
    "models", "capture", "methods", "measure", "dataset", "show", "explore", "commands", "cli", "__main__",
)  # fmt: skip
FILES = sorted(path for path in (ROOT / "vizlib").rglob("*.py") if path != ROOT / "vizlib/__init__.py")


# Names -------------------------------------------------------------------------------------------------


def run(code, cwd, **environment):
    command = [sys.executable, "-c", code]
    env = os.environ | environment
    return subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_import_loads_nothing_heavy(tmp_path):
    loaded = run("import sys, vizlib; print(*sys.modules)", tmp_path).split()
    assert "vizlib" in loaded
    assert not {"torch", "numpy", "matplotlib", "timm", "pandas", "PIL"} & set(loaded)


def test_photos_need_no_torch(tmp_path):
    loaded = run("import sys, vizlib; vizlib.data.photo('cat'); print(*sys.modules)", tmp_path).split()
    assert "PIL" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("name", vizlib._PUBLIC)
def test_every_public_name_is_the_same_twice(name):
    where, _, attribute = vizlib._PUBLIC[name].partition(":")
    vizlib.__dict__.pop(name, None)
    first = getattr(vizlib, name)
    importlib.import_module(where)  # which binds submodules to their parents
    assert getattr(vizlib, name) is first
    assert isinstance(first, types.ModuleType) == (not attribute)


def test_names_are_listed_and_others_refused():
    assert {"load", "explain", "compare", "__version__"} <= set(dir(vizlib))
    assert vizlib.__version__ == importlib.metadata.version("vizlib") == PROJECT["project"]["version"]
    with pytest.raises(AttributeError, match=r"vizlib has no 'explian'\. It has: load"):
        vizlib.explian  # noqa: B018


def test_no_public_name_is_also_a_folder_or_file():
    """`import vizlib.explore.compare` must not turn vl.compare into a module."""
    functions = {name for name, where in vizlib._PUBLIC.items() if ":" in where}
    assert not functions & {path.stem for path in (ROOT / "vizlib").iterdir()}


# Rooms -------------------------------------------------------------------------------------------------


def imports(path):
    """The vizlib modules that a file imports when it runs (not those for the type checker alone)."""
    tree = ast.parse(path.read_text())
    unused = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in unused:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "vizlib")
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "vizlib":
                yield from (f"vizlib.{alias.name}" for alias in node.names)
            elif node.module.startswith("vizlib."):
                yield node.module


def room(module):
    name = module.split(".")[1]
    return ROOMS.index(name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    own = ROOMS.index(path.relative_to(ROOT / "vizlib").parts[0].removesuffix(".py"))
    later = [module for module in imports(path) if room(module) > own]
    assert not later, f"{path.name} imports {later} from a later room"


def test_rooms_bring_nothing_out_again():
    assert not [path for path in FILES if path.stem == "__init__" and list(imports(path))]


# Packaging ---------------------------------------------------------------------------------------------


def pins():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    assert all(len(pair) == 2 for pair in pairs), "each line is name==version, without addresses"
    return {canonicalize_name(name): version for name, version in pairs}


def test_constraints_pin_every_dependency_within_its_bounds():
    project, pinned = PROJECT["project"], pins()
    extras = project["optional-dependencies"]
    named = [line for name in ("dev", "hf", "dataset", "ray") for line in extras[name]]
    for line in [*project["dependencies"], *named]:
        needed = Requirement(line)
        assert needed.specifier.contains(pinned[canonicalize_name(needed.name)]), line


def test_conda_gets_the_same_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python{PROJECT['project']['requires-python']}" in environment
    makefile = (ROOT / "Makefile").read_text()
    extras = makefile.split("EXTRAS ?= ")[1].split()[0]
    assert environment[-1]["pip"] == ["--constraint constraints.txt", f"--editable .[{extras}]"]


def test_readme_names_what_there_is():
    text = (ROOT / "README.md").read_text()
    assert sorted(re.findall(r"^\| `([a-z_+0-9]+)` \|", text, re.M)) == sorted(vizlib.METHODS)
    assert set(re.findall(r"\bvl\.(\w+)", text)) <= set(vizlib._PUBLIC)
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"^    make ([a-z-]+)", text, re.M)) <= set(targets)


def test_the_list_of_packages_is_whole():
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES if path.stem == "__init__"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | {"vizlib", "vizlib.tables"}


def test_the_wheel_works_elsewhere(tmp_path):
    """Built from a copy, installed in a folder of its own: code, tables, weights and pages are all there."""
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("vizlib", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    carried = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}
    places = {"vizlib": "vizlib", "data": "vizlib/tables"}
    expected = {
        f"{place}/{path.relative_to(source / name)}"
        for name, place in places.items()
        for path in (source / name).rglob("*")
        if path.is_file()
    }
    assert expected <= carried
    code = "import vizlib.data, vizlib.tiny_imagenet as t; print(vizlib.__file__, len(t._classes()))"
    printed = run(code, tmp_path, PYTHONPATH=str(target))
    assert printed.split() == [str(target / "vizlib/__init__.py"), "20"]
