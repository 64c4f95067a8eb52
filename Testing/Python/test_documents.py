"""README, the pages of docs/ and the other guides: where they lead, and what they quote."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *(ROOT / name for name in ("GaussianMRI/README.md", "Testing/Slicer/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LONGEST_README = 180
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(text: str) -> str:
    """A document without its blocks of code and its inline code, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(text: str) -> list[str]:
    """What a link can jump to: the headings, as GitHub writes them into addresses."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def broken(path: Path, text: str) -> list[str]:
    """Links and pictures of a document that lead to no file of the repository, or to no heading of it."""
    found = []
    for target in LINK.findall(prose(text)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or not file.is_relative_to(ROOT):
            found.append(target)
        elif anchor and anchor not in anchors(text if file == path else file.read_text(encoding="utf-8")):
            found.append(target)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not broken(path, text)
    assert broken(path, f"{text}\n[a](none.md) ![b](none.png) [c](#no-heading) [d]({path.name}#none)") == [
        "none.md", "none.png", "#no-heading", f"{path.name}#none"
    ]  # fmt: skip


def test_headings_of_a_document_have_addresses_of_their_own() -> None:
    for path in DOCUMENTS:
        found = anchors(path.read_text(encoding="utf-8"))
        assert path.name == "CHANGELOG.md" or len(set(found)) == len(found), path


def test_the_site_has_every_page() -> None:
    """The site is built strictly by `make docs`; this needs no mkdocs."""
    pages = re.findall(
        r"^  - .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_front_page_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_README
    assert "`make demo`" in text and "`make test`" in text


def test_tutorials_have_ten_steps() -> None:
    sections = re.split(r"^## ", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    tutorials = [section for section in sections if section.startswith("Tutorial: ")]
    assert len(tutorials) == len(list((ROOT / "GaussianMRI").glob("GaussianMRI*/GaussianMRI*.py")))
    for tutorial in tutorials:
        assert re.findall(r"^(\d+)\. ", tutorial, re.MULTILINE) == [str(n) for n in range(1, 11)]
        assert "](Resources/Screenshots/" in tutorial


def texts(folder: Path) -> list[str]:
    """Strings in the sources, with `…` for what is filled in."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"\{\w+\}", "…", node.value))
    return found


def test_troubleshooting_quotes_the_messages_word_for_word() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Troubleshooting")[1].split("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \| \S", section, re.MULTILINE)
    assert len(messages) == section.count("\n| ") - 1 and len(messages) > 10
    sources = texts(ROOT / "GaussianMRILib") + texts(ROOT / "GaussianMRI")
    assert [m for m in messages if not any(m in source for source in sources)] == []


def names(text: str) -> list[str]:
    """Words in italics, which are buttons, labels, entries, modules or nodes; a caption is a paragraph of its own."""
    captions = re.compile(r"^\*[^*]+\*$", re.MULTILINE)
    return re.findall(r"(?<![*\w])\*([^*]+)\*(?![*\w])", captions.sub("", prose(text)))


def shown_by_panels() -> set[str]:
    """What a reader finds in the panels, and names of Slicer's own that the documents speak of."""
    panels = [path.read_text(encoding="utf-8") for path in (ROOT / "GaussianMRI").rglob("*.ui")]
    shown = {
        text.strip()
        .removesuffix(":")
        .removesuffix("...")
        .removesuffix(" (optional)")
        .removesuffix(" (mm)")
        .strip()
        for panel in panels
        for text in re.findall(r"<string>([^<]*)</string>", panel)
    }
    shown |= set(texts(ROOT / "GaussianMRI")) | set(texts(ROOT / "GaussianMRILib"))
    looks = (ROOT / "GaussianMRILib" / "cinematic" / "looks.json").read_text(encoding="utf-8")
    shown |= set(re.findall(r'"name": "([^"]+)"', looks))
    shown |= {"Sample Data", "MRHead", "Volume Rendering", "Display", "Clipping", "Intersection"}  # Slicer's own
    shown.add("Phantom axial")  # a node of the sample, "Phantom " and the name of the scan
    return shown


def test_tutorials_name_what_the_panels_have() -> None:
    """A renamed button would lead nowhere."""
    shown = shown_by_panels()
    for section in re.split(r"^## ", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE):
        if section.startswith("Tutorial: "):
            assert len(names(section)) > 8
            assert [name for name in names(section) if name not in shown] == []


@pytest.mark.parametrize("page", ["resampling", "cinematic", "grading", "python", "limits", "command-line", "index"])
def test_pages_name_what_the_panels_have(page: str) -> None:
    shown = shown_by_panels()
    found = names((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"))
    assert [name for name in found if " ".join(name.split()) not in shown] == []
    assert page not in ("resampling", "cinematic", "grading") or len(found) > 5
    assert names("Press *Labels*.\n\n*A picture. More\nof it.*\n\nOr *two\nwords*.") == ["Labels", "two\nwords"]


def test_it_is_said_what_makes_each_picture() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    made = re.findall(r"^\| (`\w+\.png`.*?) \| (.+) \|$", contributing, re.MULTILINE)
    named = {name: by for names, by in made for name in re.findall(r"`(\w+\.png)`", names)}
    assert set(named) == {path.name for path in (ROOT / "Resources" / "Screenshots").glob("*.png")}
    scripts = [(ROOT / "Testing" / "Slicer" / file).read_text(encoding="utf-8") for file in ("screenshots.py", "gallery.py")]
    for name, by in named.items():
        if "Testing/Slicer" in by:
            assert any(f'"{name}"' in script for script in scripts), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_decimals_begin_with_a_digit(path: Path) -> None:
    """".3 dB" is read as 3 dB where the point is overlooked."""
    naked = re.compile(r"(?<![\w./\"'])\.\d+\S*")
    assert naked.findall(prose(path.read_text(encoding="utf-8"))) == []
    assert naked.findall(prose("up to .3 mm, +.5 or -.7 dB (.9), not 0.3, 1.2.3, `.4` or a.5")) == [".3", ".5", ".7", ".9),"]
