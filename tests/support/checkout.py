"""The checkout that these tests belong to."""

from __future__ import annotations

import ast
import gc
import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("contracts", "runtime", "reliability", "streams", "tables", "agents", "gateway", "control", "headrace")


def modules() -> list[Path]:
    """Every Python file of our packages."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def parsed(text: str, feature_version: tuple[int, int] | None = None) -> ast.Module:
    """The syntax tree of a module.

    Nothing is collected meanwhile: CPython 3.11 fails with "recursion depth mismatch" when a finalizer of whatever test
    ran before falls into the building of a tree (python/cpython#106905).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text, feature_version=feature_version)
    finally:
        if collects:
            gc.enable()


def tracked() -> list[Path]:
    """Every file that git tracks; empty where this is no git checkout."""
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [ROOT / name for name in run.stdout.split("\0") if name and (ROOT / name).is_file()]


def script(name: str) -> ModuleType:
    """A module of scripts/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
