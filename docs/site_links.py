"""Hook of mkdocs: links from pages to files outside docs/, which a reader of the repository follows as they are.

Pictures become files of the site; other files are linked to where the repository is published.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PICTURES = "Resources/Screenshots/"


def on_files(files: Any, config: Any) -> Any:
    """Add the pictures to the site."""
    for picture in sorted((ROOT / PICTURES).iterdir()):
        files.append(File.generated(config, f"pictures/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links of a page that leave docs/, as the site needs them."""

    def outside(match: re.Match[str]) -> str:
        if match[1].startswith(PICTURES):
            return f"](pictures/{match[1].removeprefix(PICTURES)})"
        return f"]({config.repo_url}/blob/main/{match[1]})"

    return re.sub(r"\]\(\.\./([^)]+)\)", outside, markdown)
