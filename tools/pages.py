"""Hooks of the documentation's build: one site of docs/ and of the files that its pages link to.

A page links to a file of the repository by its path, as on any host of Git repositories. Here each
file that is linked to becomes part of the site, a Markdown file as a page, at the path that it has
in the repository; those in docs/ move up by that folder. Equations become MathML, which browsers
draw without a script.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]
STARTS = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"),
    "experiments/README.md",
)
"""Pages outside of docs/ that the navigation names."""
_LINK = re.compile(r"\[(?P<text>(?:[^][]|\[[^][]*\])*)\]\((?P<to>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_AXIS = re.compile(r"""(?<=[> ])(["']|&#39;|&quot;) ([\w*#]+)\1""")
_MATHS = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Adds every file of the repository that a page links to."""
    docs = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    for name in reachable([*STARTS, *docs]):
        if not name.startswith("docs/"):
            level = InclusionLevel.INCLUDED if name in STARTS else InclusionLevel.NOT_IN_NAV
            path = str(ROOT / name)
            files.append(File.generated(config, name, abs_src_path=path, inclusion=level))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Has links lead to where their files lie in the site; a folder's name stays as text."""
    name = page.file.src_uri
    origin = f"docs/{name}" if (ROOT / "docs" / name).is_file() else name
    here = posixpath.dirname(name)

    def moved(link: re.Match[str]) -> str:
        target = target_of(origin, link["to"])
        if target is None:
            return link[0]
        if (ROOT / target).is_dir():
            return link["text"]
        where = posixpath.relpath(target.removeprefix("docs/"), here or ".")
        return f"[{link['text']}]({where}{link['anchor'] or ''})"

    return _LINK.sub(moved, markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Draws equations; in the API, takes the space off jaxtyping's single axes (" batch")."""
    if page.file.src_uri.startswith("api"):
        html = _AXIS.sub(r"\1\2\1", html)
    return _MATHS.sub(lambda found: mathml(found[2], block=found[1] == "div"), html)


def mathml(latex: str, *, block: bool) -> str:
    """An equation of the page's HTML, in MathML."""
    drawn: str = convert(html.unescape(latex).strip(), display="block" if block else "inline")
    return f'<div class="equation">{drawn}</div>' if block else drawn


def reachable(starts: list[str]) -> list[str]:
    """Files of the repository that these pages link to, in any number of steps, and the pages."""
    found, open_ends = dict.fromkeys(starts), list(starts)
    while open_ends:
        for target in linked_from(open_ends.pop()):
            if target not in found and (ROOT / target).is_file():
                found[target] = None
                if target.endswith(".md"):
                    open_ends.append(target)
    return list(found)


def linked_from(name: str) -> Iterator[str]:
    """What a page of the repository links to that has a path, whether it is there or not."""
    for link in _LINK.finditer((ROOT / name).read_text()):
        target = target_of(name, link["to"])
        if target is not None:
            yield target


def target_of(page: str, link: str) -> str | None:
    """The path in the repository that a page's link means; None where it leads elsewhere."""
    if re.match(r"[a-z]+:", link) or link.startswith("/"):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
