"""House rules about files: what loads from where, how long things are, what never gets committed."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.checkout import PACKAGES, ROOT, modules, parsed, script, tracked

MOST_MODULE_LINES = 300
MOST_FUNCTION_LINES = 40

# Written in pieces, so that this file is not its own finding.
MACHINE_PATHS = re.compile("|".join(("/wo" + "rk/", "/tmp" + "/(probe|hr)/", "/ro" + "ot/", "/ho" + "me/[a-z]+/")))  # noqa: S108
REGISTRIES = re.compile(
    "|".join(("pypi" + r"\.org", "python" + "hosted", "npm" + "js", "maven" + r"\.org", "jsdel" + "ivr"))
)
LICENCES_MAY_NAME_THEIR_HOME = re.compile(r"(^|/)(LICENSE|NOTICE)[^/]*$")

IMPORT_ALL = """
import importlib, pkgutil, socket, sys, threading
for package in {packages!r}:
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import gc
sockets = [found for found in gc.get_objects() if isinstance(found, socket.socket)]
threads = threading.enumerate()[1:]
sys.exit(f"open after imports: {{sockets}} {{threads}}" if sockets or threads else 0)
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_loads_from_this_checkout(package: str):
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_installed_library_brings_a_package_of_the_same_name(package: str):
    installed = Path(sysconfig.get_path("purelib")) / package
    assert not installed.exists()
    assert not installed.with_suffix(".py").exists()


def test_importing_every_module_opens_nothing_and_starts_nothing(tmp_path: Path):
    command = [sys.executable, "-c", IMPORT_ALL.format(packages=PACKAGES)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", [p for p in modules() if p.name == "__init__.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_a_package_init_is_a_docstring(path: Path):
    body = parsed(path.read_text()).body
    assert [type(node) for node in body] == [ast.Expr], "keep __init__.py to a docstring"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_one_idea_and_its_functions_fit_a_screen(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_MODULE_LINES, "a file that needs more has two ideas"
    long = [
        f"{node.name} at line {node.lineno}: {_lines(node)} lines"
        for node in ast.walk(parsed(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _lines(node) > MOST_FUNCTION_LINES
    ]
    assert not long, f"longer than {MOST_FUNCTION_LINES} lines without docstring: {long}"


def test_no_tracked_file_names_a_path_of_one_machine_or_a_package_index():
    found = []
    for path in tracked():
        if LICENCES_MAY_NAME_THEIR_HOME.search(str(path)):
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATHS.search(line) or REGISTRIES.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found


def test_change_fragments_have_a_number_a_word_and_a_kind():
    changelog = script("changelog")
    wrong = [path.name for path in changelog.fragments() if not changelog.FRAGMENT.match(path.name)]
    assert not wrong
    assert all(path.read_text().strip() for path in changelog.fragments())


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of signature and body, without the docstring."""
    whole = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return whole
    return whole - ((first.end_lineno or first.lineno) - first.lineno + 1)
