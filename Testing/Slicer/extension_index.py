"""What Slicer's index asks of an extension, checked on a checkout: `python Testing/Slicer/extension_index.py`.

The questions are those of the index's pull-request template, of its scripts and of its reviewers (August 2026). What is not
in a checkout is listed at the end, for a person.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("GaussianMRIResampling", "GaussianMRIGrading", "GaussianMRICinematic")
#: What the panels of the modules share: a package beside them.
SHARED = "GaussianMRIPanelLib"
#: Words by which people find each module in the description.
WORDS = {"GaussianMRIResampling": "oblique plane", "GaussianMRIGrading": "grades", "GaussianMRICinematic": "cinematic"}
SCHEMAS = re.compile(
    r"https://raw\.githubusercontent\.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1\.0\.[12]\.json#?"
)
#: Keys of an entry of the index and their types.
KEYS = {
    "$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str, "build_dependencies": list,
    "build_subdirectory": str, "dicom_support_rule": str, "enabled": bool, "tier": int,
}  # fmt: skip
NEEDED = {"$schema", "category", "scm_url"}
LARGEST_CLONE = 100 * 2**20
#: What a module may import when it is loaded: Python's own, and what Slicer brings.
AT_FILE_SCOPE = {"slicer", "qt", "ctk", "vtk", "numpy"} | set(sys.stdlib_module_names)
NETWORK = {"socket", "ssl", "http", "ftplib", "smtplib", "requests", "httpx", "aiohttp", "urllib3", "boto3"}
BINARIES = (".so", ".dll", ".dylib", ".exe", ".whl", ".jar", ".a", ".lib", ".pyc")
FOR_A_PERSON = (
    "the repository has the GitHub topic '3d-slicer-extension', and its unused features (wiki, projects) are hidden",
    "homepage, icon and screenshots answer at their URLs; the file beside the icon goes into the index as it is",
    "the extension builds and packages on Windows, macOS and Linux",
    "maintainers answer issues, and questions in Slicer's forum",
    "names of the contributors, and what is known of patents",
)
START = """
import pathlib, sys
seen = []
WATCHED = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.posix_spawn", "os.exec")
sys.path.insert(0, sys.argv[1])
from host.application import Application
app = Application(pathlib.Path(sys.argv[2]))
sys.addaudithook(lambda event, args: seen.append(f"{event} {args[:2]}") if event in WATCHED else None)
before = set(sys.modules)
for path in sys.argv[3:]:
    app.load_module(pathlib.Path(path))
app.start()
for path in sys.argv[3:]:
    app.select(pathlib.Path(path).stem)
heavy = {"torch", "scipy", "SimpleITK", "pydicom", "monai", "highdicom", "pip", "requests"} & (set(sys.modules) - before)
seen += [f"import of {name}" for name in sorted(heavy)]
print("SEEN", seen)
app.quit()
"""


def metadata(root: Path = ROOT) -> dict[str, str]:
    """Literal EXTENSION_* values of CMakeLists.txt, as the index reads them from the text."""
    text = (root / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"$]+)"\)$', text, re.MULTILINE))


def project(root: Path) -> str:
    """The extension's name."""
    return re.findall(r"^project\(\s*(\w+)", (root / "CMakeLists.txt").read_text(encoding="utf-8"), re.MULTILINE)[0]


def entry(root: Path) -> dict[str, object]:
    """The extension's file of the index."""
    found: dict[str, object] = json.loads((root / "Resources" / f"{project(root)}.json").read_text(encoding="utf-8"))
    return found


def check_entry(root: Path) -> Iterator[str]:
    name, values = project(root), metadata(root)
    if name.lower().startswith("slicer"):
        yield f"the name of the extension begins with Slicer: {name}"
    if b"\r" in (root / "Resources" / f"{name}.json").read_bytes():
        yield "the entry has line ends other than LF"
    given = entry(root)
    yield from (f"the entry lacks '{key}'" for key in sorted(NEEDED - set(given)))
    for key, value in given.items():
        if key not in KEYS or type(value) is not KEYS[key]:
            yield f"the entry's {key} = {value!r} is not of the schema"
    if not SCHEMAS.fullmatch(str(given.get("$schema"))):
        yield f"the schema {given.get('$schema')} is not a present one"
    if given.get("tier", 1) not in (1, 3, 5):
        yield f"there is no tier {given['tier']}"
    url = urlsplit(str(given.get("scm_url")))
    if url.scheme not in ("https", "git"):
        yield f"scm_url must begin with https: {given.get('scm_url')}"
    repository = url.path.rstrip("/").split("/")[-1].removesuffix(".git")
    if repository != f"Slicer{name}":
        yield f"the repository is {repository}, not Slicer{name}"
    if given.get("category") != values.get("CATEGORY"):
        yield f"categories differ: {given.get('category')} and {values.get('CATEGORY')}"
    if given.get("build_dependencies", []) != values.get("DEPENDS", "").split():
        yield f"dependencies differ: {given.get('build_dependencies')} and {values.get('DEPENDS')}"


def check_metadata(root: Path) -> Iterator[str]:
    values = metadata(root)
    wanted = ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "KEYWORDS")
    yield from (f"EXTENSION_{key} is missing or no literal" for key in wanted if not values.get(key, "").strip())
    description = values.get("DESCRIPTION", "")
    sentences = len(re.findall(r"[.!?](?:\s|$)", description))
    if not 1 <= sentences <= 2:
        yield f"the description has {sentences} sentences, not one or two"
    folders = {path.name for path in (root / "GaussianMRI").iterdir() if (path / f"{path.name}.py").is_file()}
    if folders != set(MODULES):
        yield f"the modules are {sorted(folders)}"
    built = re.findall(r"add_subdirectory\((\w+)\)", (root / "GaussianMRI" / "CMakeLists.txt").read_text(encoding="utf-8"))
    if sorted(built) != sorted([SHARED, *MODULES]):
        yield f"the extension is built of {sorted(built)}, not of the modules and {SHARED}"
    for module, word in WORDS.items():
        if word not in description.lower():
            yield f"the description does not tell of {module} (no '{word}')"
    for word in ("patents", "Apache-2.0", "research"):
        if word not in description:
            yield f"the description says nothing of {word}"


def check_pictures(root: Path) -> Iterator[str]:
    values = metadata(root)
    home, revision = values["HOMEPAGE"], entry(root).get("scm_revision", "main")
    raw = home.replace("github.com", "raw.githubusercontent.com") + f"/{revision}/"
    screenshots = values["SCREENSHOTURLS"].split()
    for url in [values["ICONURL"], *screenshots]:
        path = root / url.removeprefix(raw)
        if not url.startswith(raw) or not path.is_file() or path.read_bytes()[:8] != b"\x89PNG\r\n\x1a\n":
            yield f"{url} is no picture of this repository"
        elif url == values["ICONURL"] and (size := struct.unpack(">II", path.read_bytes()[16:24])) != (128, 128):
            yield f"the icon has {size} pixels, not 128 x 128"
    if len(screenshots) < len(MODULES):
        yield f"{len(screenshots)} screenshots for {len(MODULES)} modules"


def check_licence(root: Path) -> Iterator[str]:
    text = (root / "LICENSE.txt").read_text(encoding="utf-8") if (root / "LICENSE.txt").is_file() else ""
    if "Apache License" not in text or "Version 2.0" not in text:
        yield "LICENSE.txt is not the Apache License 2.0"


def check_readme(root: Path) -> Iterator[str]:
    text = (root / "README.md").read_text(encoding="utf-8")
    first = re.split(r"\n\s*\n", text.strip())[1]
    if not text.startswith(f"# {project(root)}\n"):
        yield "README.md does not begin with the extension's name"
    if not 1 <= len(re.findall(r"[.!?](?:\s|$)", first)) <= 2 or len(first) < 40:
        yield "README.md does not say first, in one or two sentences, what the extension is for"
    pictures = re.findall(r"!\[[^\]]+\]\(([^)#]+)\)", text)
    links = re.findall(r"(?<!!)\[[^\]]+\]\((?!https?:|#|mailto:)([^)#]+)", text)
    if not pictures:
        yield "README.md has no picture"
    missing = [name for name in [*pictures, *links] if not (root / name).exists()]
    yield from (f"README.md shows or links {name}, which is no file" for name in missing)
    for module in MODULES:
        title = "Gaussian MRI " + module.removeprefix("GaussianMRI")
        if not re.search(rf"module \*\*{title}\*\*[^\n]*\| [^|\n]{{30,}}", text):
            yield f"README.md has no sentence on the module {title}"
    for what, pattern in {
        "a publication": r"https://arxiv\.org/abs/\d{4}\.\d{4,5}|https://doi\.org/10\.",
        "how to cite it": r"CITATION\.cff",
        "the licence": r"Licence: \[Apache-2\.0\]\(LICENSE\.txt\)",
        "a tutorial": r"^## Tutorial",
        "sample data": r"\*Sample Data\* module",
        "patents": r"\b[Pp]atents?\b",
        "research use": r"[Nn]ot for diagnosis",
    }.items():
        if not re.search(pattern, text, re.MULTILINE):
            yield f"README.md says nothing of {what}"


def check_sources(root: Path) -> Iterator[str]:
    for path in sorted([*(root / "GaussianMRI").rglob("*.py"), *(root / "GaussianMRILib").rglob("*.py")]):
        where, tree = path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = _imported(node)
            if NETWORK & {name.split(".")[0] for name in names} or "urllib.request" in names:
                yield f"{where} imports {names}: nothing may be sent or fetched"
        if where.startswith("GaussianMRI/") and "Testing" not in path.parts:
            for node in tree.body:
                for name in _imported(node):
                    top = name.split(".")[0]
                    if top not in AT_FILE_SCOPE | {SHARED, *(f"{module}Lib" for module in MODULES)}:
                        yield f"{where} imports {name} at file scope"
    for path in (root / name for name in _tracked(root)):
        if path.suffix in BINARIES:
            yield f"{path.relative_to(root).as_posix()} is a binary"


def check_size(root: Path) -> Iterator[str]:
    names = _tracked(root)
    total = sum((root / name).stat().st_size for name in names if (root / name).is_file())
    done = subprocess.run(["git", "count-objects", "-v"], cwd=root, capture_output=True, text=True, check=False)
    total += 1024 * sum(int(n) for n in re.findall(r"^size(?:-pack)?: (\d+)", done.stdout, re.MULTILINE))
    if total > LARGEST_CLONE:
        yield f"a clone has {total / 2**20:.0f} MB, more than {LARGEST_CLONE / 2**20:.0f} MB"


def check_start(root: Path) -> Iterator[str]:
    """Loads the modules into the stand-in for Slicer; what reaches for the network or another program is seen."""
    paths = [str(root / "GaussianMRI" / name / f"{name}.py") for name in MODULES]
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [sys.executable, "-c", START, str(here), scratch, *paths],
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": str(root), "QT_QPA_PLATFORM": "offscreen"},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"^SEEN (.*)$", done.stdout, re.MULTILINE)
    if found is None or done.returncode:
        yield f"the modules do not load: {done.stderr[-500:]}"
    else:
        yield from (f"at start-up: {what}" for what in ast.literal_eval(found[1]))


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        module = node.module or ""
        return [module, *(f"{module}.{alias.name}" for alias in node.names if module == "urllib")]
    return []


def _tracked(root: Path) -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split("\0") if name]


CHECKS: dict[str, Callable[[Path], Iterator[str]]] = {
    "entry of the index": check_entry,
    "metadata of the extension": check_metadata,
    "icon and screenshots": check_pictures,
    "licence": check_licence,
    "README": check_readme,
    "no downloads, no heavy imports, no binaries": check_sources,
    "size of a clone": check_size,
    "no network and no other program at start-up": check_start,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    options = parser.parse_args()
    failed = False
    for name, check in CHECKS.items():
        faults = list(check(options.root))
        failed |= bool(faults)
        print(f"{'FAULT' if faults else 'ok   '} {name}")
        print("".join(f"      {fault}\n" for fault in faults), end="")
    print("To be looked at by a person:")
    print("".join(f"      {line}\n" for line in FOR_A_PERSON), end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
