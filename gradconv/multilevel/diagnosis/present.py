"""A diagnosis as tables and lines that people read, from its document alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradconv.provenance import origin_line
from gradconv.rate_records import interval_text, order_text
from gradconv.tables import pipes

if TYPE_CHECKING:
    from rich.table import Table

Record = dict[str, Any]
LEVELS = (
    "level",
    "n",
    "mean fine",
    "mean diff",
    "var fine",
    "var diff",
    "kurtosis",
    "check",
    "check, worst component",
    "work",
    "flops",
    "seconds",
)
ORDERS = ("group", "parameters", "alpha", "interval", "beta", "interval", "against gamma", "check")
ERRORS = (
    "epsilon",
    "estimator",
    "samples",
    "cost",
    "cost/single",
    "variance",
    "measured/predicted",
    "interval",
    "measured cost",
)


def whole(found: Record) -> Record:
    """Group of the whole gradient."""
    group: Record = found["groups"][0]
    return group


def _with_error(value: float | None, error: float | None) -> str:
    """Value with its standard error in percent; ~0 where it cannot be told from zero."""
    if value is None:
        return "-"
    if error is None:
        return "~0"
    if not value:
        return "0"
    return f"{value:.3g} ±{100 * error / value:.0f}%" if error else f"{value:.3g}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def level_rows(found: Record) -> list[list[str]]:
    """Cells of the level table, under `LEVELS`."""
    group = whole(found)
    costs = {c["unit"]: c["term"] for c in found["costs"]}
    rows = []
    for i, level in enumerate(found["levels"]):
        rows.append(
            [
                str(level["level"]),
                str(level["n"]),
                *(
                    _with_error(group[f"{q}"][i], group[f"{q}_stderr"][i])
                    for q in (
                        "fine_mean",
                        "difference_mean",
                        "fine_variance",
                        "difference_variance",
                    )
                ),
                _plain(group["kurtosis"][i]),
                _plain(group["check"][i]),
                _plain(found["components"]["check"][i]),
                *(
                    _plain(costs[unit][i]) if unit in costs else "-"
                    for unit in ("work", "flops", "seconds")
                ),
            ]
        )
    return rows


def _against(beta: Record, gamma: Record) -> str:
    """How the interval of β lies to that of γ."""
    if beta["order_interval"] == [None, None] or None in gamma["order_interval"]:
        return "unknown"
    low, high = beta["order_interval"]
    if low is not None and low > gamma["order_interval"][1]:
        return ">"
    if high is not None and high < gamma["order_interval"][0]:
        return "<"
    return "undecided"


def order_rows(found: Record) -> list[list[str]]:
    """Cells of the table of orders, under `ORDERS`: the whole, layers, the worst component."""
    gamma = chosen_cost(found)["gamma"]
    rows = []
    for group in found["groups"]:
        name = group["group"]
        checks = [c for c in group["check"] if c is not None]
        rows.append(
            [
                f"worst component: {name}" if group["kind"] == "component" else name,
                str(group["parameters"]),
                order_text(group["alpha"]),
                interval_text(group["alpha"]),
                order_text(group["beta"]),
                interval_text(group["beta"]),
                _against(group["beta"], gamma),
                _plain(max(checks)) if checks else "-",
            ]
        )
    return rows


def chosen_cost(found: Record) -> Record:
    """Costs in the unit that sample numbers and forecasts are in."""
    record: Record = next(c for c in found["costs"] if c["unit"] == found["unit"])
    return record


def error_rows(found: Record) -> list[list[str]]:
    """Cells of the ε–cost table, under `ERRORS`."""
    rows = []
    single: dict[float, float] = {}
    for f in found["errors"]["forecasts"]:
        single.setdefault(f["epsilon"], f["cost"])  # the single level comes first
        if f["estimator"] == "single":
            samples = str(f["counts"][-1])
        elif f["counts"] is not None:
            samples = ", ".join(map(str, f["counts"]))
        else:
            samples = f"{f['draws']} draws"
        m = f["measured"]
        rows.append(
            [
                f"{f['epsilon']:.3g}",
                f["estimator"],
                samples,
                _plain(f["cost"]),
                _plain(f["cost"] / single[f["epsilon"]]),
                _with_error(f["variance"], f["variance_stderr"]),
                _plain(m["ratio"]) if m else "-",
                f"[{m['ratio_interval'][0]:.2f}, {m['ratio_interval'][1]:.2f}]" if m else "-",
                _plain(m["cost"]) if m else "-",
            ]
        )
    return rows


def _laid_out(title: str, columns: Sequence[str], rows: list[list[str]], text: int) -> Table:
    """Lay cells out; the first `text` columns are words."""
    from rich.table import Table
    from rich.text import Text

    layout = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        layout.add_column(name, justify="left" if i < text else "right", no_wrap=i >= text)
    for row in rows:
        layout.add_row(*(Text(cell) for cell in row))
    return layout


def level_table(found: Record) -> Table:
    """Level table of the whole gradient."""
    group = whole(found)
    title = (
        f"{group['samples']} samples a level; norms of means less their sampling error (~0: not "
        "told from zero), traces of covariances; a check above 1 means that the sum does not "
        "telescope; cost a sample of a term"
    )
    return _laid_out(title, LEVELS, level_rows(found), 0)


def order_table(found: Record) -> Table:
    """Orders of the whole, layers and worst component."""
    cost = chosen_cost(found)
    gamma = cost["gamma"]
    title = (
        f"signed orders: mean diff ~ h^alpha, var diff ~ h^beta, cost ~ h^-gamma; gamma "
        f"{order_text(gamma)} {interval_text(gamma)} in {cost['name']}"
    )
    return _laid_out(title, ORDERS, order_rows(found), 1)


def error_table(found: Record) -> Table | None:
    """ε–cost table; None where nothing was forecast."""
    errors = found["errors"]
    if not errors["forecasts"]:
        return None
    title = (
        f"cost of an error on the finest mesh, in {errors['unit']}; epsilon relative to the "
        f"{errors['relative_to']}, {errors['scale']:.3g}"
    )
    return _laid_out(title, ERRORS, error_rows(found), 3)


def complexity_lines(found: Record) -> list[str]:
    """The two readings, apart: the finest mesh given, and finer ones."""
    c = found["complexity"]
    fixed = c["fixed_finest_mesh"]
    finest = found["levels"][-1]["n"]
    line = (
        f"on the finest mesh given (n={finest}), whatever the orders: multilevel costs "
        f"{fixed['ratio']:.3g} of the single level at equal variance"
    )
    start = fixed["coarsest_level_worth_having"]
    if start == len(found["levels"]) - 1:
        line += "; no coarser level is worth its cost"
    elif start:
        coarsest = found["levels"][start]["n"]
        line += f", {fixed['ratio_from_there']:.3g} with n={coarsest} as the coarsest"
    setting = found["provenance"]["configuration"].get("setting")
    other = f"as the finest mesh is refined: {c['sentence']}"
    if setting == "coarsening":
        other += (
            "; but in the coarsening setting orders are slopes between the levels of one data "
            "mesh, whose size is in their constants: this holds only as far as those stay"
        )
    return [line, other]


def law_lines(found: Record) -> list[str]:
    """Derived orders beside the measured ones, one line each."""
    lines = []
    names = {"alpha": "α", "beta": "β"}
    for law in found["laws"]:
        measured = whole(found)[law["symbol"]]
        name = f"{law['of']}, {names[law['symbol']]}"
        if law["missing"]:
            text = f"law of {name}: none: {law['missing']}"
        else:
            order = "any power" if law["order"] is None else f"{law['order']:+.4g}"
            logs = " with a logarithm" if law["log"] else ""
            data = ""
            if law["fine_order"] and law["order"] is not None:
                both = law["order"] + law["fine_order"]
                data = (
                    f" (h^{law['order']:+.3g} h_L^{law['fine_order']:+.3g}, h_L that of the data: "
                    f"h_L^{both:+.3g} on the finest level)"
                )
            text = f"law of {name}: {order}{logs}{data}"
            if law["own"]:
                inside = {True: "inside", False: "OUTSIDE", None: "not compared with"}
                text += f", {inside[law['within_interval']]} the measured {interval_text(measured)}"
            else:
                text += " (context: the same data, another model)"
        errors = [e for e in law["standard_errors"] if e is not None]
        if errors:
            shown = ", ".join(f"{e:+.1f}" for e in errors)
            text += f"; measured less law at each level, in standard errors: {shown}"
        lines.append(text)
    return lines


def warning_lines(found: Record) -> list[str]:
    """One line a warning."""
    return [f"{w['kind']} ({w['group']}): {w['sentence']}" for w in found["warnings"]]


def component_line(found: Record) -> str:
    """How the worst component was chosen."""
    c = found["components"]
    n = found["groups"][-1]["samples"]
    ratio = _plain(c["worst_cost_ratio"])
    return (
        f"worst component {c['worst']}: multilevel would cost {ratio} of the single level for it "
        f"alone, the most of all; chosen on one half of the samples, described on the other ({n}); "
        f"the component check allows {c['check_limit_stderrs']:.2f} standard errors, for a "
        f"false-alarm rate of {c['check_false_alarm']:.2g} over all components and levels"
    )


def markdown(found: Record) -> str:
    """Lay a diagnosis out as a Markdown page."""
    setup = found["provenance"]["configuration"]
    shared = ", ".join(f"{k} {v}" for k, v in setup.items() if not isinstance(v, (list, dict)))
    lines = [f"# Multilevel gradient of {setup['model']}", "", f"{shared}.", ""]
    parts = [(LEVELS, level_rows(found)), (ORDERS, order_rows(found))]
    if found["errors"]["forecasts"]:
        parts.append((ERRORS, error_rows(found)))
    for columns, rows in parts:
        lines += [*pipes(columns, rows), ""]
    for title, entries in (
        ("Complexity", complexity_lines(found)),
        ("Warnings", warning_lines(found)),
        ("Laws", law_lines(found)),
        ("Notes", [component_line(found), *found["notes"]]),
    ):
        if entries:
            lines += [f"{title}:", "", *(f"- {entry}" for entry in entries), ""]
    lines += [origin_line(found["provenance"]), ""]
    return "\n".join(lines)
