"""A report as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2

_HTML = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ blocks[0].heading }}</title>
<style>
body { font: 15px sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse }
td, th { border: 1px solid #ccc; padding: .25em .6em; text-align: right }
td:first-child, th:first-child { text-align: left }
img { max-width: 100% }
</style></head>
<body>
{% for block in blocks %}
{% if block.heading and loop.first %}<h1>{{ block.heading }}</h1>
{% elif block.heading %}<h2>{{ block.heading }}</h2>
{% elif block.picture %}<p><img src="{{ block.picture }}" alt="{{ block.text }}"></p>
{% elif block.rows %}<table>
<tr>{% for cell in block.header %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in block.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% else %}<p>{{ block.text }}</p>
{% endif %}
{% endfor %}
</body></html>
"""
_MARKDOWN = """
{%- for block in blocks %}
{%- if block.heading %}{{ "#" if loop.first else "##" }} {{ block.heading }}
{% elif block.picture %}![{{ block.text }}]({{ block.picture }})
{% elif block.rows %}| {{ block.header | join(" | ") }} |
| --- |{{ " ---: |" * (block.header | length - 1) }}
{% for row in block.rows %}| {{ row | join(" | ") }} |
{% endfor %}{% else %}{{ block.text }}
{% endif %}{{ "" if loop.last else "\n" }}
{%- endfor %}"""


class Document:
    """Paragraphs, tables and pictures, as Markdown and as HTML."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []

    def heading(self, text: str) -> None:
        self._blocks.append({"heading": text})

    def text(self, text: str) -> None:
        self._blocks.append({"text": text})

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._blocks.append({"header": header, "rows": rows})

    def picture(self, file: str, text: str) -> None:
        self._blocks.append({"picture": file, "text": text})

    def markdown(self) -> str:
        return jinja2.Template(_MARKDOWN, trim_blocks=True).render(blocks=self._blocks)

    def html(self) -> str:
        return jinja2.Template(_HTML, trim_blocks=True, autoescape=True).render(blocks=self._blocks)
