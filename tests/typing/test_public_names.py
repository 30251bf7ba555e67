"""The public names: the stub, what Python finds at run time and what the type checker is shown agree."""

import ast
import re
import sys
from pathlib import Path

from fixtures.waits import run_to_end

import emocircuits

PACKAGE = Path(emocircuits.__file__).parent
STUB = (PACKAGE / "__init__.pyi").read_text()


def listed() -> dict[str, str]:
    """Name -> module, read line by line: `from module import Name as Name`."""
    lines = re.findall(r"^from (\S+) import (\w+) as (\w+)$", STUB, re.MULTILINE)
    assert all(name == again for _, name, again in lines)
    return {name: module for module, name, _ in lines}


def test_every_import_of_the_stub_is_one_line_with_one_name():
    imports = [node for node in ast.parse(STUB).body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(listed())


def test_every_listed_name_is_there_at_run_time():
    assert sorted(emocircuits.__all__) == sorted(["__version__", *listed()])
    for name, module in listed().items():
        value = getattr(emocircuits, name)
        assert value is getattr(sys.modules[module], name)
        assert value.__doc__, name
    assert {*emocircuits.__all__} <= {*dir(emocircuits)}
    assert not hasattr(emocircuits, "no_such_name")


def test_every_name_is_shown_to_the_type_checker():
    api = (Path(__file__).parent / "api.py").read_text()
    assert not [name for name in emocircuits.__all__ if not re.search(rf"\b{name}\b", api)]


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_the_import_is_light():
    heavy = "{'torch', 'numpy', 'pandas'} & {*sys.modules}"
    code = f"import sys, emocircuits; print(sorted({heavy})); emocircuits.Push; print(sorted({heavy}))"
    done = run_to_end([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.splitlines()
    assert before == "[]" and "torch" in after
