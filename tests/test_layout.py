"""The house: who imports whom, what is in the wheel, how large files are, and one copy of every module."""

import ast
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import speechc

ROOT = Path(speechc.__file__).parent
PACKAGES = ("ir", "passes", "lowering", "compiler")
SOURCES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
# Who may import whom, inside the package.
MAY = {"ir": {"ir"}, "passes": {"ir", "passes"}, "lowering": {"ir", "lowering"}, "compiler": set(PACKAGES)}
# Heavy packages, and the only folders that may name them.
HEAVY = {
    "torch": ("compiler/capture",),
    "onnx": ("lowering/onnx",),
    "onnx_ir": ("lowering/onnx",),
    "onnxruntime": ("lowering/onnx",),
    "coremltools": ("lowering/coreml",),
    "ai_edge_litert": ("lowering/tflite",),
    "flatbuffers": ("lowering/tflite",),
    "onnx_graphsurgeon": ("lowering/tensorrt",),
    "tensorrt": ("lowering/tensorrt",),
    "tensorrt_rtx": ("lowering/tensorrt",),
    "tensorflow": (),
    "transformers": ("compiler/capture",),
}
LONGEST = 400


def imports(path: Path):
    """Every module that a file imports, as it is resolved."""
    here = ("speechc", *path.relative_to(ROOT).with_suffix("").parts)
    package = here if path.name == "__init__.py" else here[:-1]
    package = package[:-1] if path.name == "__init__.py" else package
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join((*base, *(node.module or "").split("."))).strip(".")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_layering(path):
    own = path.relative_to(ROOT).parts[0]
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "speechc" and len(parts) > 1 and parts[1] in PACKAGES:
            assert parts[1] in MAY[own], f"{path} imports {module}: {own} may import {MAY[own]}"
        assert parts[0] not in PACKAGES, f"{path} imports {module} absolutely: a second copy"
        folders = HEAVY.get(parts[0])
        if folders is not None:
            inside = any(path.relative_to(ROOT).as_posix().startswith(f) for f in folders)
            assert inside, f"{path} imports {module}: only {folders} may"
        if own in ("ir", "passes") and parts[0] not in ("speechc", "numpy", "safetensors", "__future__"):
            assert parts[0] in sys.stdlib_module_names, f"{path} imports {module}: {own} is numpy only"


def test_imports_inside_the_package_are_relative():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert not (node.module or "").startswith("speechc"), f"{path}: from {node.module} import …"


def test_every_package_is_in_the_wheel():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(("speechc", *p.parent.relative_to(ROOT).parts)) for p in SOURCES if p.name == "__init__.py"}
    assert listed == found | {"speechc"}
    for path in SOURCES:
        assert (path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py: it misses from the wheel"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_small_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST, f"{path} has over {LONGEST} lines: is it one idea?"
    doc = ast.get_docstring(ast.parse(text))
    assert doc, f"{path} does not open with a sentence that says what it is for"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_second_copy_is_refused(package, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.spec_from_file_location(package, ROOT / package / "__init__.py")
    with pytest.raises(ImportError, match="import this as speechc"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize("arguments", [["--help"], ["compile", "--help"], ["passes"], ["version"]])
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from speechc.compiler.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        f"heavy = sorted(set({sorted(HEAVY)!r}) & set(sys.modules))\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


def test_no_todo_is_left():
    for path in SOURCES:
        for word in ("TO" + "DO", "FIX" + "ME", "X" + "XX"):
            assert word not in path.read_text(), f"{path} holds {word}"
