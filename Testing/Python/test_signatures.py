"""What a call is about is given by position, at most three things; options are given by name, so that they can be added to.

Public is what the library and its rooms have in `__all__`, with the methods of it, and every class of options. The functions
of `native` are defined in its `__init__` and are left out: they have the arguments of the C interface in its order.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from rooms import sources

MOST = 3
#: What has a default and yet is what a call is about; or calls of more things.
EXCEPTIONS = {
    "CinematicModel.render.plane": "what cuts the model; None is the whole",
    "Outcome.value": "what the work found",
    "Phantom.seed": "which phantom",
    "Phantom.disc_plane.level": "which disc",
    "PlaneBatch": "operands of kernels, which are unpacked",
    "PlaneBatch.render_backward": "operands of a kernel",
    "Splats": "operands of kernels, which are unpacked",
    "TrainOptions.of_quality.name": "which quality",
    "measure_canal.volume_nodes": "what the labels were drawn on",
    "report.planes_or_volumes": "what a report is on",
    "report_rows.planes_or_volumes": "what a report is on",
}


def homes(tree: ast.Module) -> dict[str, str]:
    """Where a room's `__init__` has each name of its `__all__` from: a file or folder beside it."""
    assigned = {
        ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets
    }
    if "_HOMES" in assigned:
        return dict(ast.literal_eval(assigned["_HOMES"]))
    names = set(ast.literal_eval(assigned["__all__"])) if "__all__" in assigned else set()
    return {
        alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
        if alias.name in names
    }


def public(texts: dict[str, str]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Definitions of the functions and classes that users call, but those of `native`."""
    trees = {path: ast.parse(text) for path, text in texts.items()}
    names: dict[str, set[str]] = {path: set() for path in trees}
    for path, tree in trees.items():
        if path.endswith("__init__.py"):
            for name, home in homes(tree).items():
                file = path.removesuffix("__init__.py") + home.replace(".", "/") + ".py"
                if file in names:  # a folder has an `__init__` of its own
                    names[file].add(name)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                options = node.name.endswith("Options") and not node.name.startswith("_")
                if node.name in names[path] or options:
                    yield node


def dataclass_fields(node: ast.ClassDef) -> list[tuple[str, bool]] | None:
    """Name of each field that can be given by position, and whether it has a default; None of other classes."""
    for decorator in node.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(call).split(".")[-1] != "dataclass":
            continue
        if isinstance(decorator, ast.Call) and any(k.arg == "kw_only" for k in decorator.keywords):
            return []
        fields = []
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or ast.unparse(item.annotation).startswith("ClassVar"):
                continue
            if ast.unparse(item.annotation).endswith("KW_ONLY"):
                break
            fields.append((ast.unparse(item.target), item.value is not None))
        return fields
    return None


def arguments(node: ast.FunctionDef, method: bool) -> list[tuple[str, bool]]:
    """Name of each argument that can be given by position, and whether it has a default."""
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    defaults = [False] * (len(names) - len(node.args.defaults)) + [True] * len(node.args.defaults)
    bound = method and "staticmethod" not in map(ast.unparse, node.decorator_list)
    return list(zip(names, defaults, strict=True))[bound:]


def calls(node: ast.FunctionDef | ast.ClassDef) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """What is called, and what it takes by position."""
    if isinstance(node, ast.FunctionDef):
        yield node.name, arguments(node, method=False)
        return
    fields = dataclass_fields(node)
    if fields is not None:
        yield node.name, fields
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and (item.name == "__init__" or not item.name.startswith("_")):
            name = node.name if item.name == "__init__" else f"{node.name}.{item.name}"
            yield name, arguments(item, method=True)


def wrong(texts: dict[str, str]) -> list[str]:
    """Sentences on options that can be given by position, on calls of too many things, and on exceptions nobody needs."""
    found, used = [], set()
    for node in public(texts):
        for name, taken in calls(node):
            for argument, option in taken:
                if option:
                    used.add(f"{name}.{argument}")
                    found.append((f"{name}.{argument}", f"{name} takes its option {argument} by position"))
            if len(taken) > MOST:
                used.add(name)
                found.append((name, f"{name} takes {len(taken)} things by position"))
    return [said for name, said in found if name not in EXCEPTIONS] + [
        f"{name} is an exception and needs none" for name in sorted(EXCEPTIONS.keys() - used)
    ]


def test_options_are_given_by_name() -> None:
    texts = sources()
    assert len(list(public(texts))) > 150
    assert not wrong(texts), "\n".join(wrong(texts))


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        (
            "metrics/fidelity.py",
            "truth: np.ndarray, *, weight",
            "truth: np.ndarray, weight",
            "psnr takes its option weight",
        ),
        ("volumes/volume.py", "    _: KW_ONLY\n", "", "Volume takes its option order"),
        (
            "cinematic/options.py",
            "@dataclass(frozen=True, kw_only=True)",
            "@dataclass",
            "TrainOptions takes its option method",
        ),
        (
            "geometry/slab.py",
            "plane: ImagePlane, *, projection",
            "plane: ImagePlane, projection",
            "slab_image takes 4 things",
        ),
    ],
)
def test_the_rule_is_seen_to_be_broken(path: str, old: str, new: str, message: str) -> None:
    texts = sources()
    assert old in texts[path]
    assert any(message in said for said in wrong(texts | {path: texts[path].replace(old, new)}))
