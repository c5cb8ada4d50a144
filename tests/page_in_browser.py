"""What a page must do in a browser: checks that give complaints, and where the atlas has what."""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from typing import Any

from browser import Browser

WIDTHS = (390, 1440)
HEIGHT = 900
LEVELS = ("WARNING", "SEVERE")

# Colours as the browser blends them, for every element with text of its own.
CONTRAST = """
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 1;
const pen = canvas.getContext("2d", { willReadFrequently: true });
const seen = new Map();
const rgba = (colour) => {
  if (!seen.has(colour)) {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    seen.set(colour, [...pen.getImageData(0, 0, 1, 1).data]);
  }
  return seen.get(colour);
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const found = rgba(getComputedStyle(e).backgroundColor);
    if (found[3] === 255) return found;
  }
  return [255, 255, 255, 255];
};
const light = (c) => {
  const [r, g, b] = c.slice(0, 3).map((v) => {
    const s = v / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = new Set();
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.checkVisibility() || e.closest("svg, script, style, noscript, option")) continue;
  const style = getComputedStyle(e);
  const [a, b] = [light(rgba(style.color)), light(behind(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.7 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) {
    found.add(`<${e.tagName.toLowerCase()} class="${e.className}"> ${ratio.toFixed(2)}`);
  }
}
return [...found];
"""

ACCESSIBLE = """
const found = [];
const named = (e) => {
  const by = e.getAttribute("aria-labelledby");
  const text = by ? by.split(" ").map((i) => document.getElementById(i)?.textContent).join(" ")
    : e.getAttribute("aria-label") || (e.labels && e.labels[0] && e.labels[0].textContent)
      || e.textContent;
  return Boolean(text && text.trim());
};
const operable = "a[href], button, select, input, [role], [tabindex='0']";
for (const e of document.querySelectorAll(operable)) {
  if (!named(e)) found.push(`no name: ${e.outerHTML.slice(0, 80)}`);
}
for (const e of document.querySelectorAll("[tabindex]")) {
  if (e.tabIndex > 0) found.push(`order of Tab is changed: ${e.outerHTML.slice(0, 80)}`);
}
for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
  const names = ["aria-labelledby", "aria-describedby"].map((a) => e.getAttribute(a) || "");
  for (const id of names.join(" ").split(" ").filter(Boolean)) {
    if (!document.getElementById(id)) found.push(`${id} is missing`);
  }
}
for (const e of document.querySelectorAll("[aria-hidden='true'] a, [aria-hidden='true'] button")) {
  found.push(`hidden, but can be reached: ${e.outerHTML.slice(0, 80)}`);
}
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
for (const id of new Set(ids)) {
  if (ids.filter((i) => i === id).length > 1) found.push(`id ${id} twice`);
}
for (const box of document.querySelectorAll("main *")) {
  const style = getComputedStyle(box);
  const scrolls = ["auto", "scroll"].includes(style.overflowX);
  const wider = scrolls && box.scrollWidth > box.clientWidth + 1;
  if (wider && box.tabIndex !== 0 && !box.querySelector("[tabindex='0']")) {
    found.push(`scrolls, but not by keys: ${box.outerHTML.slice(0, 80)}`);
  }
}
return found;
"""

# The cell of the matrix under headers: as somebody finds it who reads them.
FIND = """
const [kernel, noise, setting, dim, restriction] = arguments;
const table = document.getElementById("atlas-matrix");
const repeated = (th) => Array(th.colSpan).fill(th.textContent);
const spread = (row) => [...row.querySelectorAll("th")].flatMap(repeated);
const [settings, dims, restrictions] = [...table.tHead.rows].map(spread);
const wanted = [setting, dim, restriction].join();
const column = settings.findIndex((s, i) => [s, dims[i], restrictions[i]].join() === wanted);
for (const body of table.tBodies) {
  if (body.querySelector("th[scope='rowgroup']").textContent !== kernel) continue;
  for (const row of body.rows) {
    if (row.querySelector("th[scope='row']").textContent === noise) {
      return row.querySelectorAll("td")[column] || null;
    }
  }
}
return null;
"""


def console(browser: Browser) -> list[str]:
    """Errors and warnings since the last call."""
    return [m["message"] for m in browser.log() if m["level"] in LEVELS]


def overflow(browser: Browser) -> list[str]:
    """Whether the page is wider than the view."""
    wide, view = browser.run("return [document.scrollingElement.scrollWidth, innerWidth]")
    return [] if wide <= view else [f"{wide} pixels in a view of {view}"]


def lost_pictures(browser: Browser) -> list[str]:
    """Pictures that did not load."""
    return browser.run(
        "return [...document.images].filter((i) => !(i.complete && i.naturalWidth > 0))"
        ".map((i) => i.alt)"
    )


def requests(browser: Browser) -> list[str]:
    """What was asked for since the last call, beside pages and what they hold themselves."""
    found = []
    for entry in browser.log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            sent = message["params"]
            if sent.get("type") != "Document" and not sent["request"]["url"].startswith("data:"):
                found.append(sent["request"]["url"])
    return found


def contrast(browser: Browser) -> list[str]:
    """Text that stands out too little from what is behind it."""
    return browser.run(CONTRAST)


def accessible(browser: Browser) -> list[str]:
    """Names, order of Tab, references, and regions that scroll."""
    return browser.run(ACCESSIBLE)


def titles(pdf: bytes) -> list[str]:
    """Headings in the outline of a PDF, without spaces: one is lost where a line breaks."""
    found = []
    for plain, coded in re.findall(rb"/Title (?:\(((?:\\.|[^\\)])*)\)|<([0-9A-Fa-f]+)>)", pdf):
        if coded:
            found.append(bytes.fromhex(coded.decode()).decode("utf-16"))
        else:
            found.append(re.sub(rb"\\(.)", rb"\1", plain).decode("latin-1"))
    return [title.replace(" ", "") for title in found]


def printed(browser: Browser) -> bytes:
    """The page as a PDF with an outline."""
    found = browser.devtools(
        "Page.printToPDF",
        paperWidth=8.27,
        paperHeight=11.69,
        printBackground=True,
        generateDocumentOutline=True,
    )
    return base64.b64decode(found["data"])


def square(browser: Browser, cell: dict[str, Any], noise: str) -> Any:
    """Element of a cell, found by the headers of its row and its column."""
    return browser.run(
        FIND,
        cell["kernel"].partition(":")[0],
        noise,
        cell["setting"],
        f"d = {cell['dim']}",
        cell["restriction"].replace("_", " "),
    )


def hover(browser: Browser, element: Any) -> None:
    """Move the mouse onto an element, in the middle of the view."""
    place = "{ behavior: 'instant', block: 'center', inline: 'center' }"
    browser.run(f"arguments[0].scrollIntoView({place})", element)
    browser.hover(element)


def choose(browser: Browser, target: str, quantity: str) -> None:
    """Choose what the matrix shows."""
    browser.run(
        """
        for (const [place, name] of ["target", "quantity"].entries()) {
          const select = document.getElementById(`atlas-${name}`), text = arguments[place];
          select.value = [...select.options].find((o) => o.textContent === text).value;
          select.dispatchEvent(new Event("change"));
        }
        """,
        target,
        quantity,
    )


def panel(browser: Browser) -> dict[str, str]:
    """What is said of a cell, by term."""
    return browser.run(
        """
        const found = { which: document.querySelector("#atlas-cell .which").textContent };
        for (const term of document.querySelectorAll("#atlas-cell dt")) {
          found[term.textContent] = term.nextElementSibling.textContent;
        }
        found.command = document.querySelector("#atlas-cell code")?.textContent || "";
        return found;
        """
    )


def expected(cell: dict[str, Any], quantity: str) -> dict[str, str]:
    """What must be said of a cell, from its stored record; orders to two decimals."""
    own = cell["quantities"][quantity]
    law, seen = own.get("derived"), own["measured"]
    if law is None:
        said = "none derived"
    elif law["order"] is None:
        said = f"{law['verdict']}: zero, or smaller than any power of h"
    else:
        order, constant = _plain(round(law["order"], 2)), _plain(_three(law["coefficient"]))
        sign = "+" if law["order"] > 0 else ""
        log = " · log(1/h)" if law["log"] else ""
        said = (
            f"order {sign}{order}, constant {constant}: {constant}·h{order}{log}; {law['verdict']}"
        )
    if seen["order"] is None:
        measured = f"{seen['verdict']}, no order fitted"
    else:
        ends = [_order(e) for e in seen["interval"] or ()]
        interval = f" [{ends[0]}, {ends[1]}]" if ends else ""
        constant = _plain(_three(seen["coefficient"]))
        measured = (
            f"order {_order(seen['order'])}{interval}, constant {constant}; {seen['verdict']}"
        )
    return {
        "Law": said,
        "Measured": measured,
        "Status": own["status"] + (f": {own['reason'].replace('`', '')}" if own["reason"] else ""),
    }


def _three(value: float) -> float:
    return float(f"{value:.3g}")


def _order(value: float) -> str:
    value = round(value, 2)
    text = (
        f"{value:+.2f}" if abs(value) < 100 else ("+" if value > 0 else "") + _plain(_three(value))
    )
    return ("0.00" if value == 0 else text).replace("-", "−")


def _plain(value: float) -> str:
    """Shortest decimal of a number; powers of ten stand out of the range 1e-6 to 1e21."""
    number = Decimal(repr(value))
    if value and not 1e-6 <= abs(value) < 1e21:
        sign, digits, exponent = number.normalize().as_tuple()
        text = "".join(map(str, digits))
        power = int(exponent) + len(digits) - 1
        mantissa = text[0] + ("." + text[1:] if text[1:] else "")
        return f"{'−' if sign else ''}{mantissa}·10{power}".replace("-", "−")
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")
