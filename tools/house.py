"""Checks the rules of the house that no other linter knows (CONTRIBUTING.md explains them).

    python -m tools.house

A rule that is broken is told with its file and line; the exit status is then 1.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "infoutil_jax"
ROOMS = (
    *("errors", "kinds", "ranges", "files", "locks", "memory"),
    *("blocks", "parallel", "provenance", "progress"),
    *("shapley", "gradients", "image", "method", "models", "data", "training"),
    *("refine", "distillation", "app", "__main__"),
)
"""Lowest first: a room imports from itself and from the rooms before it."""
ALONE = {room: {room, "errors", "blocks"} for room in ("shapley", "gradients", "image")}
"""Rooms that others may want without the rest of the house."""
MOST_PARAMETERS = 8
MOST_LINES = 350
EXCEPTIONS = {
    "infoutil_jax.data.sources:open_source": "its signature is promised to users",
    "infoutil_jax.method.attribution:patch_shapley": "its signature is promised to users",
}
"""Functions that may take more parameters, each with its reason."""

Import = tuple[str, int, bool]
"""A module's name, the line, and whether it is imported as soon as the importing module is."""


def check(root: Path) -> list[str]:
    """What is wrong under `root`, one sentence each."""
    modules = {module_name(root, file): file for file in sorted((root / PACKAGE).rglob("*.py"))}
    trees = {name: ast.parse(file.read_text()) for name, file in modules.items()}
    imports = {name: list(imports_of(tree, modules)) for name, tree in trees.items()}
    return [
        *too_long(root),
        *too_many_parameters(modules, trees),
        *upward_imports(modules, imports),
        *upward_tests(root, modules),
        *circles(imports),
    ]


def module_name(root: Path, file: Path) -> str:
    """`infoutil_jax.models` of `infoutil_jax/models/__init__.py`."""
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """The room that a module of the package lies in; None for the package itself and others."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


def imports_of(tree: ast.AST, modules: dict[str, Path]) -> Iterator[Import]:
    """The package's modules that a tree imports."""
    at_once = {id(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            at_once -= {id(node) for node in ast.walk(function)}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else node.module for name in below]
        for name in dict.fromkeys(names):
            if name.split(".")[0] == PACKAGE:
                yield name, getattr(node, "lineno", 1), id(node) in at_once


def too_long(root: Path) -> Iterator[str]:
    """Files that ask to be two."""
    for folder in (PACKAGE, "experiments", "tests", "tools"):
        for file in sorted((root / folder).rglob("*.py")):
            lines = len(file.read_text().splitlines())
            if lines > MOST_LINES:
                name = file.relative_to(root)
                yield f"{name}:{lines} has {lines} lines; the most is {MOST_LINES}"


def too_many_parameters(modules: dict[str, Path], trees: dict[str, ast.Module]) -> Iterator[str]:
    """Functions that ask for a config object."""
    needed = set()
    for module, tree in trees.items():
        for name, function in functions(tree):
            arguments = function.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            every += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
            count = sum(argument.arg not in ("self", "cls") for argument in every)
            if count > MOST_PARAMETERS:
                needed.add(f"{module}:{name}")
                if f"{module}:{name}" not in EXCEPTIONS:
                    yield (
                        f"{modules[module]}:{function.lineno} {name} takes {count} parameters; "
                        f"the most is {MOST_PARAMETERS}"
                    )
    for name in sorted(EXCEPTIONS.keys() - needed):
        if name.partition(":")[0] in modules:
            yield f"{modules[name.partition(':')[0]]}:1 {name} needs no exception in tools/house.py"


def functions(
    tree: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a tree, by its qualified name."""
    for node in ast.iter_child_nodes(tree):
        inner = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{prefix}{node.name}."
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}", node
        yield from functions(node, inner)


def upward_imports(modules: dict[str, Path], imports: dict[str, list[Import]]) -> Iterator[str]:
    """Imports that reach into a higher room."""
    for module, found in imports.items():
        room = room_of(module)
        if room is None:
            continue
        if room not in ROOMS:
            yield f"{modules[module]}:1 lies in no known room; the rooms are {', '.join(ROOMS)}"
            continue
        for name, line, _ in found:
            if not is_allowed(room, room_of(name)):
                yield f"{modules[module]}:{line} {room} imports {name}, which is not below it"


def is_allowed(room: str, other: str | None) -> bool:
    """Whether a room may import from another."""
    if other is None:  # the package itself, which imports every room
        return False
    if room in ALONE:
        return other in ALONE[room]
    return rank(other) <= rank(room)


def rank(room: str) -> int:
    """How high a room lies; what is no room lies above all."""
    return ROOMS.index(room) if room in ROOMS else len(ROOMS)


def upward_tests(root: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Tests of a room that need a room above it."""
    for file in sorted((root / "tests").rglob("test_*.py")):
        room = file.relative_to(root / "tests").parts[0].removeprefix("test_").removesuffix(".py")
        if room not in ROOMS:  # a test of the whole
            continue
        for name, line, _ in imports_of(ast.parse(file.read_text()), modules):
            other = room_of(name)
            if other is not None and rank(other) > rank(room):
                yield f"{file.relative_to(root)}:{line} a test of {room} imports {name}"


def circles(imports: dict[str, list[Import]]) -> Iterator[str]:
    """Modules that import each other, however many lie between."""
    graph = {
        module: {name for name, _, at_once in found if at_once and name in imports} - {module}
        for module, found in imports.items()
        if module != PACKAGE
    }
    done: set[str] = set()
    for start in graph:
        path: list[str] = []

        def visit(module: str, path: list[str] = path) -> list[str] | None:
            if module in path:
                return [*path[path.index(module) :], module]
            if module in done or module not in graph:
                return None
            path.append(module)
            for name in sorted(graph[module]):
                # A room's own __init__ imports its modules, which is no circle.
                if not module.startswith(f"{name}.") and (found := visit(name)):
                    return found
            path.pop()
            done.add(module)
            return None

        if circle := visit(start):
            yield f"{circle[0]} imports itself: {' → '.join(circle)}"
            return


def main() -> int:
    """Prints what is wrong; the number of sentences decides the exit status."""
    wrong = check(Path(__file__).parents[1])
    print("\n".join(wrong) or "the house is in order")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
