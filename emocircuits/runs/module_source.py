"""One module of the package as its source says it is: what it imports, mentions, defines and passes on."""

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from emocircuits.provenance import PACKAGE, sha256_bytes

ROOT = "emocircuits"
HARMLESS = {
    "property",
    "cached_property",
    "classmethod",
    "staticmethod",
    "cache",
    "contextmanager",
    "no_grad",
}
Import = tuple[str, str]  # (module, name taken from it; "" for the module itself)


@dataclass
class Unit:
    """The code of a module outside its functions, or of one function.

    Attributes:
        imports: what it imports of the package.
        mentions: the names and attributes that it uses; attributes also as `.name`, those of `self` also as
            `self.name`.
        adds: the registries that it adds to.
    """

    imports: set[Import] = field(default_factory=set)
    mentions: set[str] = field(default_factory=set)
    adds: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class ModuleSource:
    """One module of the package, read but not run.

    Attributes:
        name: its dotted name.
        path: its file.
        code: hash of its code, without comments and docstrings.
        top: the code outside functions, and that of functions which others may call: decorated ones and those
            with a name like `__init__`.
        functions: (name, code) of every other function and method; functions inside one belong to it.
        texts: the string constants in it.
        registries: names of the registries that it defines.
        passes_on: name -> where a package's `__init__` takes it from.
    """

    name: str
    path: Path
    code: str
    top: Unit
    functions: tuple[tuple[str, Unit], ...]
    texts: frozenset[str]
    registries: frozenset[str]
    passes_on: dict[str, Import]

    @property
    def is_package(self) -> bool:
        """Whether it is an `__init__`."""
        return self.path.name == "__init__.py"


def read_source(module: str) -> ModuleSource:
    """A module of the package, parsed once and again when its file has changed."""
    path = module_file(module)
    if path is None:
        raise ModuleNotFoundError(module)
    state = path.stat()
    return _parsed(module, path, (state.st_mtime_ns, state.st_size))


@cache
def module_file(module: str) -> Path | None:
    """The file of a module of the package, or None."""
    if module != ROOT and not module.startswith(f"{ROOT}."):
        return None
    path = PACKAGE.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _parsed(module: str, path: Path, stamp: tuple[int, int]) -> ModuleSource:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top, functions, texts = _read(tree)
    return ModuleSource(
        name=module,
        path=path,
        code=sha256_bytes(ast.dump(tree).encode()),
        top=top,
        functions=tuple(functions),
        texts=frozenset(texts),
        registries=frozenset(_registries(tree)),
        passes_on=_passed_on(tree, module) if path.name == "__init__.py" else {},
    )


def _read(tree: ast.Module) -> tuple[Unit, list[tuple[str, Unit]], set[str]]:
    """Code outside functions, functions, and string constants of a module; takes the docstrings out of it.

    One loop over all nodes rather than a function for each: a package has a million of them.
    """
    top, functions, texts = Unit(), [], set()
    left: list[tuple[ast.AST, Unit, bool]] = [(tree, top, True)]  # node, whose code, outside functions
    while left:
        node, unit, outside = left.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left += [(decorator, unit, outside) for decorator in node.decorator_list]
            by = {_last_name(decorator) for decorator in node.decorator_list} - HARMLESS
            special = node.name.startswith("__") and node.name != "__getattr__"
            if outside and not by and not special:
                unit = Unit()
                functions.append((node.name, unit))
            left += [(part, unit, False) for part in [node.args, *node.body]]
            left += [] if node.returns is None else [(node.returns, unit, False)]
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in _last_name(node.test):
            continue
        if isinstance(node, ast.Import):
            unit.imports |= {(alias.name, "") for alias in node.names if alias.name.split(".")[0] == ROOT}
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == ROOT:
            unit.imports |= {(str(node.module), alias.name) for alias in node.names}
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            unit.mentions.add(node.id)
        elif isinstance(node, ast.Attribute):
            unit.mentions |= {node.attr, f".{node.attr}"}
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                unit.mentions.add(f"self.{node.attr}")
            if isinstance(node.value, ast.Name) and node.attr == "add":
                unit.adds.add(node.value.id)  # to add to a registry is not to read it
                continue
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
        elif isinstance(node, ast.Call) and _last_name(node) == "getattr" and len(node.args) > 1:
            named = [value.value for value in node.args[1:2] if isinstance(value, ast.Constant)]
            unit.mentions |= {*named, *(f".{name}" for name in named)}
        left += [(child, unit, outside) for child in ast.iter_child_nodes(node)]
    return top, functions, texts


def _last_name(node: ast.AST) -> str:
    target = node.func if isinstance(node, ast.Call) else node
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def _registries(tree: ast.Module) -> set[str]:
    found = set()
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Call) and _last_name(value) == "Registry":
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def _passed_on(tree: ast.Module, package: str) -> dict[str, Import]:
    """What an `__init__` imports, and the names of a lazy table `{name: module}` in it."""
    found: dict[str, Import] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == ROOT:
            found |= {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    found[str(key.value)] = (f"{package}.{value.value}", str(key.value))
    return found
