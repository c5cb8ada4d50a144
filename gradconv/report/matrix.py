"""The cells of the atlas, packed for the page: texts by number, numbers to three digits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from gradconv.atlas.cells import CHOICES
from gradconv.atlas.present import WORDS

Record = dict[str, Any]
POWERS = {0.25: "d/4", 0.5: "d/2", 0.75: "3d/4", 1.0: "d", 1.5: "3d/2"}
FIRST = ("none", "pixel", "uniform", "salt-and-pepper", "poisson", "white")
LAST = 100  # place of a noise that is none of the first ones
METHODS = {
    "window": "a fit on levels that the law shows to be asymptotic",
    "sum": "a fit; of the law, the sum of its terms is held against the data",
    "fit": "a fit",
    "sample": "the slope of sampled values between the coarsest and the finest gap",
    "": "",
}


def packed(cells: Sequence[Record]) -> Record:
    """Pack cells as tables of texts and rows of numbers.

    Parameters
    ----------
    cells : sequence of dict
        Of the atlas's document.

    Returns
    -------
    dict
        ``choices`` (values by choice), ``noises`` (rows of the matrix), ``texts`` (statuses,
        verdicts, methods, reasons), ``records`` (distinct laws and measurements: status, reason,
        derived order, log, constant, verdict, measured order, ends of its interval, constant,
        verdict, method) and ``cells`` (places of the choices, row of the noise, and a record for
        each quantity).
    """
    values = {choice: _distinct(cell[choice] for cell in cells) for choice in CHOICES}
    for choice in ("kernel", "restriction", "setting", "target", "dim"):
        values[choice].sort()
    if "identity" in values["target"]:
        values["target"].sort(key=lambda target: target != "identity")
    families = sorted({_family(kernel) for kernel in values["kernel"]})
    noises = sorted({noise_row(cell) for cell in cells}, key=_noise_place)
    texts: dict[str, list[str]] = {"status": [], "verdict": [], "method": [], "reason": []}
    places: dict[tuple[Any, ...], int] = {}
    rows = []
    for cell in cells:
        row = [values[choice].index(cell[choice]) for choice in CHOICES]
        row += [families.index(_family(cell["kernel"])), noises.index(noise_row(cell))]
        for quantity in WORDS:
            record = _record(cell["quantities"][quantity], texts)
            row.append(places.setdefault(record, len(places)))
        rows.append(row)
    return {
        "choices": values,
        "kernels": families,
        "noises": noises,
        "quantities": list(WORDS.values()),
        "texts": texts,
        "methods": [METHODS.get(name, name) for name in texts["method"]],
        "records": [list(record) for record in places],
        "cells": rows,
    }


def noise_row(cell: Record) -> str:
    """Row of a cell's noise: powers stand at the same share of d in every dimension."""
    name, _, rest = str(cell["noise"]).partition(":")
    if name != "power":
        return str(cell["noise"])
    share = float(rest.partition(":")[0]) / cell["dim"]
    return f"power, α = {POWERS.get(round(share, 4), f'{share:.3g} d')}"


def _noise_place(name: str) -> tuple[int, str]:
    if name in FIRST:
        return FIRST.index(name), name
    if name.startswith("power"):
        share = name.rpartition("= ")[2]
        known = list(POWERS.values())
        return len(FIRST) + (known.index(share) if share in known else len(known)), name
    return LAST, name


def _family(kernel: str) -> str:
    return kernel.partition(":")[0]


def _record(own: Record, texts: dict[str, list[str]]) -> tuple[Any, ...]:
    derived, measured = own.get("derived"), own["measured"]
    low, high = measured["interval"] or (None, None)
    return (
        _place(texts["status"], own["status"]),
        _place(texts["reason"], own["reason"]),
        derived and order_digits(derived["order"]),
        derived and derived["log"],
        derived and digits(derived["coefficient"]),
        derived and _place(texts["verdict"], derived["verdict"]),
        order_digits(measured["order"]),
        order_digits(low),
        order_digits(high),
        digits(measured["coefficient"]),
        _place(texts["verdict"], measured["verdict"]),
        _place(texts["method"], measured["method"]),
    )


def digits(value: float | None) -> float | int | None:
    """Three significant digits, as short as JSON can write them."""
    return None if value is None else _short(float(f"{value:.3g}"))


def order_digits(value: float | None) -> float | int | None:
    """Two decimals, or three digits where an order is large."""
    if value is None:
        return None
    return _short(round(value, 2)) if abs(value) < 100 else digits(value)


def _short(value: float) -> float | int:
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e6
    return int(value) if whole else value


def _place(texts: list[str], text: str) -> int:
    if text not in texts:
        texts.append(text)
    return texts.index(text)


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
