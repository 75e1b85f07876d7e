"""Turn a page into text: with trafilatura where it is installed, else with the standard library."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SILENT = frozenset({"script", "style", "noscript", "template", "svg", "head"})
_BREAKS = frozenset({
    "p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "section", "article", "table",
    "ul", "ol", "blockquote", "dt", "dd",
})  # fmt: skip


class _Text(HTMLParser):
    """Collects visible text, one block a line, headings marked as in Markdown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.title = ""
        self._silent: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag == "title":
            self._in_title = True
        if tag == "body":
            self._silent.clear()
        elif tag in _SILENT:
            self._silent.append(tag)
        elif tag in _BREAKS:
            self.pieces.append("\n" + ("#" * int(tag[1]) + " " if re.fullmatch(r"h[1-6]", tag) else ""))
        elif tag in {"td", "th"}:
            self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        elif tag in _BREAKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._silent:
            self.pieces.append(re.sub(r"\s+", " ", data))


def plain_text(html: str) -> str:
    """All visible text of a page, without a library's judgement of what matters."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    lines = (line.strip() for line in "".join(parser.pieces).split("\n"))
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    title = " ".join(parser.title.split())
    return f"{title}\n\n{body}" if title else body


def page_text(html: str) -> str:
    """The main text of a page; all of it when the main part cannot be told or is tiny."""
    everything = plain_text(html)
    try:
        import trafilatura  # noqa: PLC0415
    except ImportError:
        return everything
    main = trafilatura.extract(html, include_tables=True, include_links=False, favor_recall=True)
    # On short or unusual pages it drops what was asked for; then the whole text is the safer answer.
    if not main or len(main) < 200 or len(everything) < 4000:
        return everything
    title = everything.split("\n", 1)[0]
    return f"{title}\n\n{main}"
