"""The source that a stage depends on, as one hash: a change elsewhere leaves the stage fresh.

What counts is the code of the modules that a stage's module imports, directly or through others, without
comments and docstrings; the data files that they read; and the versions of the libraries that compute.

* A package's `__init__` counts only where a name is defined in it; a name that it merely passes on counts as
  its own module.
* An import inside a function counts once code that counts mentions the function's name. What a `Run` and its
  `RunFiles` import counts for modules that import these and mention it.
* Whoever reads a registry depends on the modules of its room that add to it.
* `if TYPE_CHECKING` does not count, nor does a module that is imported by a name computed at run time: a run
  loads its stages in this way.
"""

from functools import cache
from importlib import metadata
from pathlib import Path

from emocircuits.provenance import PACKAGE, sha256_file, sha256_json
from emocircuits.runs.module_source import ROOT, Import, ModuleSource, Unit, module_file, read_source

LIBRARIES = ("torch", "transformers", "transformer-lens", "sae-lens")
READERS = {"__file__", "resources"}
FACADES = {"emocircuits.runs.run": "Run", "emocircuits.artifacts.run_files": "RunFiles"}


def source_hash(module: str) -> str:
    """Hash of everything that the result of a stage's module depends on, its inputs aside."""
    sources, files = closure(module)
    versions = {library: metadata.version(library) for library in LIBRARIES}
    code = {source.name: source.code for source in sources}
    data = {path.relative_to(PACKAGE).as_posix(): sha256_file(path) for path in files}
    return sha256_json({"code": code, "data": data, "libraries": versions})


def closure(module: str) -> tuple[list[ModuleSource], list[Path]]:
    """The modules of the package that a module depends on, with itself, and the data files that they read."""
    walk = _Walk()
    walk.enter(read_source(module))
    walk.use(walk.seen[module], *(unit for _, unit in walk.seen[module].functions))
    walk.run()
    sources = sorted(walk.seen.values(), key=lambda source: source.name)
    files = {path for source in sources if source.name in walk.reading for path in data_files(source)}
    return sources, sorted(files)


class _Walk:
    """The way through the modules that something depends on.

    Attributes:
        seen: the modules that count, by name.
        reading: names of those that read data files.
        mentioned: name -> the modules that mention it in code that counts.
    """

    def __init__(self) -> None:
        self.seen: dict[str, ModuleSource] = {}
        self.reading: set[str] = set()
        self.mentioned: dict[str, set[str]] = {}
        self._functions: list[tuple[str, ModuleSource, Unit]] = []  # that nothing has mentioned so far
        self._left: list[tuple[ModuleSource, Unit]] = []

    def enter(self, source: ModuleSource) -> None:
        """A module that counts."""
        if source.name not in self.seen:
            self.seen[source.name] = source
            self._left.append((source, source.top))
            self._functions += [(name, source, unit) for name, unit in source.functions]

    def use(self, source: ModuleSource, *units: Unit) -> None:
        """Code of a module that counts."""
        self._left += [(source, unit) for unit in units]

    def run(self) -> None:
        """Follows imports until nothing new is met."""
        while self._left:
            source, unit = self._left.pop()
            for name in unit.mentions:
                self.mentioned.setdefault(name, set()).add(source.name)
            if unit.mentions & READERS:
                self.reading.add(source.name)
            for wanted in unit.imports:
                for found in resolve(wanted):
                    self.enter(found)
            if not self._left:
                self._follow()

    def _follow(self) -> None:
        """Enters what is mentioned by now: functions, and members of registries."""
        waiting = []
        for name, source, unit in self._functions:
            if self._called(name, source):
                self._left.append((source, unit))
            else:
                waiting.append((name, source, unit))
        self._functions = waiting
        for source in tuple(self.seen.values()):
            for registry in source.registries & self.mentioned.keys():
                for member in registry_members(source.name, registry):
                    self.enter(read_source(member))

    def _called(self, name: str, source: ModuleSource) -> bool:
        if source.name not in FACADES:
            return name in self.mentioned
        by = self.mentioned.get(f".{name}", set())  # a function of the same name is no method of a run
        inside = source.name in self.mentioned.get(f"self.{name}", set())
        wanted = (source.name, FACADES[source.name])
        return inside or any(wanted in self.seen[other].top.imports for other in by)


def resolve(wanted: Import) -> list[ModuleSource]:
    """The modules behind an import: the one that defines the name, not those that pass it on."""
    module, name = wanted
    if name and module_file(f"{module}.{name}"):
        return resolve((f"{module}.{name}", ""))
    if not module_file(module):
        return []
    source = read_source(module)
    if source.is_package and name in source.passes_on:
        return resolve(source.passes_on[name])
    return [] if source.is_package and not name else [source]


def data_files(source: ModuleSource) -> list[Path]:
    """The data files in a module's folder, and in its folders without code, whose name or folder the module
    names; all of them where it names none.
    """
    folder = source.path.parent
    files = [path for path in _files_without_code(folder) if path.suffix not in (".py", ".pyc", ".part")]
    named = [path for path in files if source.texts.intersection(path.relative_to(folder).parts)]
    return named or files


@cache
def _files_without_code(folder: Path) -> tuple[Path, ...]:
    """Files of a room's folder and of its folders without code; none of the package's own folder."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()) if folder != PACKAGE else ():
        if path.is_dir() and path.name != "__pycache__" and not any(path.rglob("*.py")):
            found += [inner for inner in sorted(path.rglob("*")) if inner.is_file()]
        elif path.is_file():
            found.append(path)
    return tuple(found)


@cache
def registry_members(module: str, registry: str) -> tuple[str, ...]:
    """Names of the modules of a registry's room that add to it."""
    room, found = PACKAGE / module.split(".")[1], []
    for path in sorted(room.rglob("*.py")) if room.is_dir() else ():
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if path.name != "__init__.py":
            name = ".".join((ROOT, *parts))
            found += [name] if registry in read_source(name).top.adds else []
    return tuple(found)
