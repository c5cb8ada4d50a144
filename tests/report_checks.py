"""What a page must be, read as text: the checks that need no browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

LARGEST = 5_000_000  # bytes
VOID = {"meta", "link", "img", "br", "hr", "input", "col"}
HEADING = re.compile(r"h[1-6]$")
LOADING = ("src", "href", "srcset", "poster", "data", "action", "xlink:href")
LANDMARKS = ("header", "nav", "main", "footer")
NAMED = ("button", "select", "section", "nav", "article")  # elements that need a name


@dataclass
class Element:
    """An element with its attributes and the text in it."""

    tag: str
    attributes: dict[str, str]
    texts: list[str] = field(default_factory=list)
    children: list[Element] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str = "") -> list[Element]:
        """Elements inside, in the order of the page."""
        found = []
        for child in self.children:
            found += [child] if not tag or child.tag == tag else []
            found += child.all(tag)
        return found

    def by_id(self, name: str) -> Element:
        return next(e for e in self.all() if e.attributes.get("id") == name)


class Reader(HTMLParser):
    """Builds the tree, and notes what is not closed as it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.wrong: list[str] = []
        self.doctype = ""

    def handle_decl(self, decl: str) -> None:
        self.doctype = decl

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1].tag != tag:
            self.wrong.append(f"</{tag}> closes <{self.open[-1].tag}>")
        if any(element.tag == tag for element in self.open):
            while self.open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.texts.append(data)


def read(page: str) -> Element:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader.root


def faults(page: str) -> list[str]:
    """Everything that is wrong with a page; empty if nothing is."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    every = reader.root.all()
    found = list(reader.wrong)
    if reader.doctype.lower() != "doctype html" or not page.startswith("<!DOCTYPE html>"):
        found.append("no doctype at the beginning")
    if len(reader.open) > 1:
        found.append(f"<{reader.open[-1].tag}> is not closed")
    if len(page.encode()) >= LARGEST:
        found.append(f"{len(page.encode())} bytes")
    ids = [e.attributes["id"] for e in every if "id" in e.attributes]
    found += [f"id {name} twice" for name in sorted({i for i in ids if ids.count(i) > 1})]
    found += [f"id {name!r} has a space" for name in ids if not name or re.search(r"\s", name)]
    for e in every:
        found += _element_faults(e, set(ids))
    for tag in LANDMARKS:
        count = sum(e.tag == tag and _landmark(e, reader.root) for e in every)
        found += [] if count == 1 else [f"{count} <{tag}> as landmarks"]
    levels = [int(e.tag[1]) for e in every if HEADING.match(e.tag)]
    if levels.count(1) != 1:
        found.append(f"{levels.count(1)} headings of level 1")
    before = 0
    for level in levels:
        found += [f"heading of level {level} after {before}"] if level > before + 1 else []
        before = level
    return found


def _landmark(element: Element, root: Element) -> bool:
    """A footer of a quotation is none of the page."""
    if element.tag not in ("header", "footer"):
        return True
    return not any(element in outer.all() for outer in root.all("blockquote"))


def _element_faults(e: Element, ids: set[str]) -> list[str]:
    found = []
    a = e.attributes
    for name in LOADING:
        value = a.get(name, "")
        if value.startswith("#"):
            found += [] if value[1:] in ids else [f"{value} leads nowhere"]
        elif value and not value.startswith("data:"):
            found.append(f"{name} {value[:60]} is outside the page")
    for name in ("aria-labelledby", "aria-describedby", "for"):
        found += [f"{name} {i} is missing" for i in a.get(name, "").split() if i not in ids]
    if e.tag == "img" and len(a.get("alt", "").strip()) < 5:
        found.append("a picture without alternative text")
    if e.tag == "img" and not (a.get("width", "").isdigit() and a.get("height", "").isdigit()):
        found.append("a picture without its size")
    if e.tag in ("th",) and a.get("scope") not in ("row", "col", "rowgroup", "colgroup"):
        found.append(f"a header of a table without scope: {e.text}")
    if e.tag == "table" and "role" not in a and not e.all("caption"):
        found.append("a table without caption")
    labelled = "aria-label" in a or "aria-labelledby" in a
    if e.tag in ("section", "nav", "article") and not labelled:
        found.append(f"<{e.tag}> without a name")
    if a.get("tabindex") == "0" and not labelled:
        found.append(f"<{e.tag}> can be reached but has no name")
    if e.tag == "html" and not a.get("lang"):
        found.append("no language")
    if any(name.startswith("on") for name in a):
        found.append(f"<{e.tag}> has a script in an attribute")
    if e.tag == "style":
        found += [f"style loads {url}" for url in re.findall(r"(?:url\(|@import)[^;]*", e.text)]
    if e.tag == "a" and not e.text:
        found.append("a link without text")
    return found


def atlas_data(page: str) -> dict[str, Any]:
    """The atlas that the page holds, unpacked."""
    text = read(page).by_id("atlas-data").text
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(text)))
    return found
