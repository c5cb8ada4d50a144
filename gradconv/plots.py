"""Figures drawn from records alone; nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.figures import COLOURS, LAW, MARKERS, SCREEN, Style, below, mesh_axis, text_width
from gradconv.problem import CHOICES
from gradconv.wording import choice_words, kernel_words, law_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
Panels = dict[tuple[str, ...], list[Record]]

PANEL_CHOICES = tuple(name for name in CHOICES if name != "kernel")
LARGEST = 24  # panels; beyond this nobody reads them
GAPS = ("mean_gap", "rms_gap")
CELLS = "abcdefghijklmnopqrstuvwxyz"
LEFT, RIGHT, BETWEEN = 5.0, 1.0, 1.5  # margins and gap of panels, in sizes of text


def gap_figure(records: Sequence[Record], title: str = "", style: Style = SCREEN) -> Figure:
    """Log-log figure of mean and rms gap against h: a panel a problem, a colour a kernel.

    Points are measured, lines of their colour are fits, dotted dark lines the law, not fitted.

    Parameters
    ----------
    records : sequence of dict
        Records of the data contract.
    title : str
        Headline.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    panels, names = _panels(records)
    kernels = list(dict.fromkeys(r["kernel"] for r in records))
    limits = _limits(records)
    with style.apply():
        layout = _Layout.of(panels, style, len(names), bool(title) and not style.paper)
        size = style.scale * (0.8 if layout.columns > 2 else 1.0)
        figure = Figure(figsize=(layout.width, layout.height))
        axes = layout.axes(figure)
        for i, (axis, key) in enumerate(zip(axes, panels, strict=True)):
            _draw_panel(axis, panels[key], kernels, limits, size)
            letter = f"({CELLS[i]}) " if style.paper and len(panels) > 1 else ""
            axis.set_title(letter + _panel_title(names, key), pad=0.5 * style.font)
            if layout.labelled(i):
                axis.set_xlabel("mesh size $h$, finer to the right")
            _verdicts(axis, panels[key], kernels, layout.texts[i], layout.drop(i))
            if i % layout.columns == 0:
                axis.set_ylabel(r"gap $\Vert g(h) - g(2h) \Vert$")
        if title and not style.paper:
            figure.suptitle(
                _headline(records, title), y=1.0 - 0.5 * layout.em / layout.height, va="top"
            )
        _legend(figure, any(_drawn(r) for r in records), _any_hidden(records, limits), size)
    return figure


@dataclass(frozen=True)
class _Layout:
    """Places of panels in inches: a text under a panel may be as wide as it, and moves nothing."""

    columns: int
    panels: int
    width: float
    em: float  # size of text
    wide: float  # width of a panel
    texts: tuple[list[str], ...]  # under each panel
    line: float  # height of a line of them
    titles: int  # lines of a panel's title
    headline: bool

    @classmethod
    def of(cls, panels: Panels, style: Style, titles: int, headline: bool) -> _Layout:
        columns = 2 if len(panels) == 4 else min(len(panels), 3)
        width = style.full if columns > 1 else style.column
        em = style.font / 72.0
        wide = (width - (LEFT + RIGHT + BETWEEN * (columns - 1)) * em) / columns
        room = 72.0 * wide - 1.6 * style.font  # beside a marker
        texts = tuple(_broken([_texts(found) for found in panels.values()], room))
        return cls(
            columns, len(panels), width, em, wide, texts, style.line, max(titles, 0), headline
        )

    @property
    def lines(self) -> int:
        return -(-self.panels // self.columns)

    @property
    def high(self) -> float:
        """Height of a panel."""
        return self.wide * (0.66 if self.columns < 3 else 0.8)

    def labelled(self, panel: int) -> bool:
        """Whether no panel is under this one, so that its axis has a label."""
        return panel + self.columns >= self.panels

    def drop(self, panel: int) -> float:
        """From a panel to the text under it, in points."""
        return (3.7 if self.labelled(panel) else 2.0) * self.em * 72.0

    def _under(self, line: int) -> float:
        """Height of all that is under the panels of a line."""
        own = range(line * self.columns, min(self.panels, (line + 1) * self.columns))
        return max(
            self.drop(i) / 72.0 + self.line * sum(t.count("\n") + 1 for t in self.texts[i])
            for i in own
        )

    @property
    def _title(self) -> float:
        return (0.9 + 1.25 * self.titles) * self.em

    @property
    def height(self) -> float:
        under = sum(self._under(line) for line in range(self.lines))
        head = 2.4 * self.em if self.headline else 0.0
        return self.lines * (self.high + self._title) + under + head + 2.4 * self.em

    def axes(self, figure: Figure) -> list[Axes]:
        found: list[Axes] = []
        top = self.height - (2.4 * self.em if self.headline else 0.0)
        for i in range(self.panels):
            line, column = divmod(i, self.columns)
            if column == 0:
                top -= self._title + (self.high + self._under(line - 1) if line else 0.0)
            left = LEFT * self.em + column * (self.wide + BETWEEN * self.em)
            place = (
                left / self.width,
                (top - self.high) / self.height,
                self.wide / self.width,
                self.high / self.height,
            )
            first = found[0] if found else None
            axis = figure.add_axes(place, sharex=first, sharey=first)
            axis.tick_params(labelleft=column == 0)
            found.append(axis)
        return found


def _headline(records: Sequence[Record], title: str) -> str:
    """Title, and how many problems are left out."""
    names = [c for c in PANEL_CHOICES if len({str(r[c]) for r in records}) > 1]
    count = len({tuple(str(r[c]) for c in names) for r in records})
    return f"{title}\n(the first {LARGEST} of {count} problems)" if count > LARGEST else title


def _panels(records: Sequence[Record]) -> tuple[Panels, list[str]]:
    names = [c for c in PANEL_CHOICES if len({str(r[c]) for r in records}) > 1]
    panels: Panels = {}
    for record in records:
        panels.setdefault(tuple(str(record[c]) for c in names), []).append(record)
    return dict(list(panels.items())[:LARGEST]), names


def _panel_title(names: Sequence[str], key: Sequence[str]) -> str:
    return "\n".join(choice_words(name, value) for name, value in zip(names, key, strict=True))


def _limits(records: Sequence[Record]) -> tuple[float, float]:
    """Range of what is worth seeing: what vanishes faster than powers does not stretch the axis."""
    gaps = [r for r in records if r["quantity"] in GAPS]
    lawful = [r for r in gaps if r["order"] is not None and r["verdict"] != "undecided"]
    values = [v for r in gaps for v in r["values"] if v]
    if not values:
        return 1e-16, 1.0
    top = max(values)
    low = min([v for r in lawful for v in r["values"] if v], default=min(values))
    return max(low, top * 1e-9) / 2.5, top * 4.0


def _any_hidden(records: Sequence[Record], limits: tuple[float, float]) -> bool:
    """Whether a gap lies under the axis."""
    gaps = (r for r in records if r["quantity"] in GAPS)
    return any(v is not None and v < limits[0] for r in gaps for v in r["values"])


def _draw_panel(
    axis: Axes,
    records: Sequence[Record],
    kernels: Sequence[str],
    limits: tuple[float, float],
    size: float,
) -> None:
    h = max((r["h"] for r in records if r["quantity"] == "mean_gap"), key=len)
    mesh_axis(axis, h, name=False)
    axis.set_yscale("log")
    axis.set_ylim(*limits)
    axis.minorticks_off()
    axis.grid(True, which="major")
    for record in records:
        if record["quantity"] in GAPS:
            _draw_series(axis, record, kernels.index(record["kernel"]), limits[0], size)


def _draw_series(axis: Axes, record: Record, position: int, low: float, size: float) -> None:
    colour = COLOURS[position % len(COLOURS)]
    marker = MARKERS[position % len(MARKERS)]
    mean = record["quantity"] == "mean_gap"
    h, values = np.array(record["h"]), np.array(record["values"], dtype=float)
    errors = np.array(record["stderr"], dtype=float)
    seen = values > 0
    hidden = values < low
    axis.plot(
        h[hidden],
        np.full(hidden.sum(), low),
        color=colour,
        marker="v",
        markersize=4.0 * size,
        markerfacecolor=colour if mean else "none",
        linestyle="none",
        clip_on=False,
        zorder=6,
    )
    axis.errorbar(
        h[seen],
        values[seen],
        yerr=2.0 * errors[seen] if np.any(errors > 0) else None,
        color=colour,
        marker=marker,
        markersize=(5.0 if mean else 7.5) * size,
        linestyle="none",
        markerfacecolor=colour if mean else "none",
        elinewidth=0.9 * size,
        zorder=3 if mean else 2,
    )
    if record["order"] is not None:
        first, last = record["window"]
        window = h[first : last + 1]
        axis.plot(
            window,
            record["coefficient"] * window ** record["order"],
            color=colour,
            linestyle="-" if mean else "--",
            alpha=0.9,
        )
    if _drawn(record):
        law = np.array(record["law"]["values"], dtype=float)  # NaN where it was not evaluated
        positive = law > 0
        axis.plot(h[positive], law[positive], **LAW)


def _drawn(record: Record) -> bool:
    """Whether a record's law is a line of the figure."""
    gap = record["quantity"] in ("mean_gap", "rms_gap")
    return gap and any(record.get("law", {}).get("values", ()))


def _texts(records: Sequence[Record]) -> list[list[str]]:
    """Verdict, order and law of each kernel's mean gap."""
    found = []
    for record in records:
        if record["quantity"] != "mean_gap":
            continue
        words = [f"{kernel_words(record['kernel'], record['dim'])}: {record['verdict']}"]
        law = law_words(record.get("law", {}))
        if record["order"] is not None:
            low, high = record["order_interval"]
            text = f"order {record['order']:+.2f} [{low:+.2f}, {high:+.2f}]"
            words.append(text.replace("-", "−"))
        elif record["decay"] == "faster than algebraic":
            words.append("faster than any power")
            law = law.replace("faster than any power", "agrees")
        found.append([*words, law] if law else words)
    return found


def _broken(texts: Sequence[Sequence[Sequence[str]]], room: float) -> list[list[str]]:
    """Lines of all texts, broken alike so that they fit; `room` in points, within a style."""
    ways = ((3,), (1, 2), (1, 1, 1))  # how many words go on each line
    found: list[list[str]] = []
    for way in ways:
        ends = [sum(way[: i + 1]) for i in range(len(way))]
        found = [
            [
                "\n".join(", ".join(t[e - n : e]) for e, n in zip(ends, way, strict=True)).strip()
                for t in panel
            ]
            for panel in texts
        ]
        if all(text_width(line) <= room for p in found for t in p for line in t.split("\n")):
            break
    return found


def _verdicts(
    axis: Axes, records: Sequence[Record], kernels: Sequence[str], texts: list[str], points: float
) -> None:
    """State the mean gap's verdict and order of each kernel under its panel."""
    from matplotlib.lines import Line2D

    means = [r for r in records if r["quantity"] == "mean_gap"]
    handles = []
    for record, text in zip(means, texts, strict=True):
        position = kernels.index(record["kernel"])
        colour, marker = COLOURS[position % len(COLOURS)], MARKERS[position % len(MARKERS)]
        for line in text.split("\n"):
            handles.append(Line2D([], [], color=colour, marker=marker, ls="none", label=line))
            marker = ""  # only beside the first line
    axis.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=below(axis, points),
        labelcolor="linecolor",
        handlelength=0.8,
        handletextpad=0.5,
        labelspacing=0.35,
        borderaxespad=0.0,
        borderpad=0.0,
    )


def _legend(figure: Figure, with_law: bool, hidden: bool, size: float) -> None:
    from matplotlib.lines import Line2D

    point: Any = {"color": "0.3", "marker": "o"}
    handles = [
        Line2D([], [], **point, linestyle="-", markersize=5.0 * size, label="mean gap, fit"),
        Line2D(
            [],
            [],
            **point,
            markerfacecolor="none",
            linestyle="--",
            markersize=7.5 * size,
            label="rms gap (± 2 s.e.), fit",
        ),
    ]
    if with_law:
        handles.append(Line2D([], [], **LAW, label="law, not fitted"))
    if hidden:
        handles.append(
            Line2D(
                [],
                [],
                color="0.3",
                marker="v",
                markersize=4.0 * size,
                linestyle="none",
                label="below the axis",
            )
        )
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), borderaxespad=0.3)
