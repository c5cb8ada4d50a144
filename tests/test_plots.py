"""Figures and tables of a sweep: the law goes through the data, and is told apart from the fit."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from gradconv import Problem, figures, plots, rate_records, wording
from gradconv.config import SweepConfig
from gradconv.kernels import KernelOptions
from gradconv.runner import run

SMALL = {"dim": (1,), "levels": "3:7", "replicates": 16, "restriction": ("average",)}
Record = dict[str, Any]


@pytest.fixture(scope="module")
def computed() -> list[Record]:
    return run(SweepConfig(**SMALL, noise=("pixel:20", "pixel:0.5"))).records


@pytest.fixture
def records(computed: list[Record]) -> list[Record]:
    return deepcopy(computed)


def drawn(records: list[Record]) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Points of every law line, by mesh size and value."""
    figure = plots.gap_figure(records)
    lines = [line for axis in figure.axes for line in axis.get_lines()]
    laws = [line for line in lines if line.get_color() == figures.LAW["color"]]
    return [(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in laws]


def labels(records: list[Record]) -> list[str]:
    figure = plots.gap_figure(records)
    legends = [axis.get_legend() for axis in figure.axes]
    return [t.get_text() for legend in legends if legend for t in legend.get_texts()]


def legend(records: list[Record]) -> list[str]:
    return [t.get_text() for t in plots.gap_figure(records).legends[0].get_texts()]


def gap(records: list[Record], kernel: str, quantity: str = "mean_gap") -> Record:
    return next(r for r in records if (r["kernel"], r["quantity"]) == (kernel, quantity))


def test_the_law_is_drawn_through_the_data(records: list[Record]) -> None:
    gaps = [r for r in records if r["quantity"] in ("mean_gap", "rms_gap")]
    expected = [(tuple(r["h"]), tuple(r["law"]["values"])) for r in gaps]
    assert sorted(drawn(records)) == sorted(expected)
    assert len(expected) == 8
    assert "law, not fitted" in legend(records)


def test_only_evaluated_levels_are_drawn(records: list[Record]) -> None:
    record = gap(records, "mfc", "rms_gap")
    whole = record["law"]["values"]
    record["law"]["values"] = [*whole[:2], None, 0.0]
    assert (tuple(record["h"][:2]), tuple(whole[:2])) in drawn(records)
    record["law"]["values"] = []
    assert len(drawn(records)) == 7


def test_records_without_a_law_are_drawn(records: list[Record]) -> None:
    """Stored by an earlier version, or of a problem that has none."""
    for r in records:
        del r["law"]
    assert drawn(records) == []
    assert legend(records) == ["mean gap, fit", "rms gap (± 2 s.e.), fit"]
    assert not any("law" in text for text in labels(records))


def test_the_law_stands_with_its_formula_beside_the_measured_order(records: list[Record]) -> None:
    found = labels(records)
    assert sum(text.startswith("standard 3: diverges, order −") for text in found) == 2
    assert sum(text.startswith("mesh-free: ") for text in found) == 2
    law = gap(records, "stencil")["law"]
    two = f"{law['coefficient']:.1e}".partition("e")[0]
    assert sum(text.endswith(r"\, h^{-1}$") for text in found) == 2
    assert sum(text.endswith(r"\, h^{2}$") for text in found) == 2
    assert any(two.replace(".", "") in text.replace(".", "") for text in found)
    for changes, text in (
        ({"coefficient": 0.0123, "order": 0.0, "log": 1}, r"law $0.012\, \log(1/h)$"),
        ({"coefficient": 4.56e-7, "order": -1.5}, r"law $4.6\times 10^{-7}\, h^{-1.5}$"),
        ({"coefficient": 123.4, "order": 1.0}, r"law $120\, h$"),
        ({"agrees": False}, r"\, h^{-1}$, disagrees"),
        ({"coefficient": None}, "law of order −1"),
        ({"order": None}, "law agrees"),
        ({"order": None, "agrees": False}, "law disagrees"),
        ({"order": None, "decay": "faster than algebraic"}, "law faster than any power"),
    ):
        before = dict(law)
        law.update(changes)
        assert sum(label.endswith(text) for label in labels(records)) == 1, text
        law.update(before)


def test_choices_are_named_as_readers_know_them(records: list[Record]) -> None:
    assert wording.kernel_words("stencil", 2) == "standard 3 × 3"
    assert wording.kernel_words("stencil:5", 3) == "standard 5 × 5 × 5"
    assert wording.kernel_words("mfc", 1) == "mesh-free"
    assert wording.kernel_words("gaussian-derivative:2:0.1", 1) == "gaussian-derivative:2:0.1"
    assert wording.kernel_words("stencil:four", 1) == "stencil:four"  # of another version
    assert wording.noise_words("none") == "no noise"
    assert wording.noise_words("pixel") == "pixel noise, σ = 0.5"
    assert wording.noise_words("matern:1.5:0.1:1") == "Matérn noise, ν = 1.5, length = 0.1, σ = 1"
    assert wording.noise_words("pixel:a:b") == "pixel:a:b noise"
    given = KernelOptions(weights=[0.1, 0.2, 0.4, 0.2, 0.1])
    assert Problem("stencil", dim=1, options=given).describe()["kernel"] == "stencil:5"
    assert Problem("stencil", dim=1).describe()["kernel"] == "stencil"
    titles = [axis.get_title() for axis in plots.gap_figure(records).axes]
    assert titles == ["pixel noise, σ = 20", "pixel noise, σ = 0.5"]
    found = plots.gap_figure(records, "A headline", figures.find_style("two-column"))
    assert [axis.get_title()[:4] for axis in found.axes] == ["(a) ", "(b) "]
    assert found.get_suptitle() == ""


def test_what_lies_below_the_axis_is_marked(records: list[Record]) -> None:
    """A gap that falls faster than any power leaves the others their room, and is not lost."""
    assert "below the axis" not in legend(records)
    record = gap(records, "mfc")
    record |= {"order": None, "decay": "faster than algebraic", "values": [1e-9, 1e-30, 0.0, 0.0]}
    assert "below the axis" in legend(records)
    axes = plots.gap_figure(records).axes[0]
    low = axes.get_ylim()[0]
    (marks,) = [
        line for line in axes.get_lines() if line.get_marker() == "v" and len(line.get_xdata())
    ]
    assert list(marks.get_xdata()) == record["h"]
    assert set(marks.get_ydata()) == {low}


def test_a_law_is_no_colour_and_no_line_of_a_fit() -> None:
    assert figures.LAW["color"] not in figures.COLOURS
    assert figures.LAW["linestyle"] not in ("-", "--")
    assert figures.LAW["zorder"] > 3  # over points and fits


@pytest.mark.parametrize("kernels", [("stencil", "mfc"), ("gaussian-derivative:2:0.123456", "mfc")])
def test_labels_leave_the_panels_their_width(kernels: tuple[str, ...]) -> None:
    """Six panels, none narrower than half of its share."""
    noises = ("none", "pixel:0.5", "white:0.05")
    config = SweepConfig(
        **{**SMALL, "replicates": 2, "restriction": ("average", "injection")},
        noise=noises,
        kernel=kernels,
    )
    figure = plots.gap_figure(run(config).records, "A headline")
    assert figures.figure_bytes(figure, "png")
    panels = [axis.get_position() for axis in figure.axes if axis.get_visible()]
    assert len(panels) == 6
    assert all(panel.width > 0.5 / 3 for panel in panels)


def test_the_table_says_what_the_law_says(records: list[Record]) -> None:
    column = [*rate_records.varying(records), *rate_records.COLUMNS].index("law")
    cells = [row[column] for row in rate_records.rows(records, rate_records.varying(records))]
    by_rate = {
        (r["kernel"], r["noise"], r["quantity"]): c for r, c in zip(records, cells, strict=True)
    }
    assert by_rate["stencil", "pixel:20", "mean_gap"] == "-1 agrees"
    assert by_rate["mfc", "pixel:0.5", "mean_gap"] == "+2 agrees"
    assert by_rate["stencil", "pixel:0.5", "level_norm"] == "0 agrees"
    assert not any("disagrees" in line for line in rate_records.footnotes(records))


def test_a_disagreement_is_not_overlooked(records: list[Record]) -> None:
    provenance = {
        **{"configuration_hash": "0" * 64, "commit": "1" * 40, "dirty": False},
        **{"seed": 0, "dtype": "float64", "device": "cpu"},
    }
    assert "Laws:" not in rate_records.markdown(records, provenance)
    law = gap(records, "stencil")["law"]
    law.update(agrees=False, reason="largest relative difference 5.0e-01")
    assert rate_records.law_text(law) == "-1 DISAGREES"
    line = "disagrees: largest relative difference 5.0e-01 (stencil pixel:20 mean gap)"
    assert f"law {line}" in rate_records.footnotes(records)
    assert f"Laws:\n\n- {line}\n" in rate_records.markdown(records, provenance)
    law.update(agrees=None, reason="too large", values=[])
    assert rate_records.law_text(law) == "-1"
    assert "- not compared: too large (" in rate_records.markdown(records, provenance)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"order": None, "coefficient": None, "agrees": None, "decay": "none"}, "-"),
        ({"order": None, "decay": "faster than algebraic", "coefficient": 0.0}, "zero agrees"),
        ({"order": 0.0, "log": 1}, "0 log agrees"),
        ({"order": 0.5}, "+0.5 agrees"),
    ],
)
def test_laws_without_a_plain_power(changes: Record, text: str, records: list[Record]) -> None:
    assert rate_records.law_text({**records[0]["law"], **changes}) == text


def test_panels_that_are_left_out_are_counted(records: list[Record]) -> None:
    many = [{**r, "noise": f"pixel:{n}"} for n in range(30) for r in records[:8]]
    text = plots.gap_figure(many, "Title").get_suptitle()
    assert text == "Title\n(the first 24 of 30 problems)"
    assert plots.gap_figure(records, "Title").get_suptitle() == "Title"
