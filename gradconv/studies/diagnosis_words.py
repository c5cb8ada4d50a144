"""Diagnoses of a study in words: captions, sentences, tables."""

from __future__ import annotations

from typing import Any

from gradconv.multilevel.diagnosis import present
from gradconv.rate_records import interval_text, order_text
from gradconv.tables import Table
from gradconv.wording import number_cell

Record = dict[str, Any]


def as_document(result: Record) -> Record:
    """What functions of a diagnosis' document take."""
    return {**result, "provenance": {"configuration": result["configuration"]}}


def data_words(result: Record) -> str:
    """Data, meshes and samples."""
    choices = result["choices"]
    levels = choices["levels"]
    source = (
        f"tiles of {choices['images']}, task {choices['task']}"
        if "images" in choices
        else f"signal {choices['signal']}, noise {choices['noise']}, {choices['setting']}"
    )
    return (
        f"{choices['dim']}-D, {source}, restriction {choices['restriction']}, {levels[0]} to "
        f"{levels[-1]} cells an axis, {choices['samples']} samples a level"
    )


def caption_of(result: Record) -> str:
    """What the figure of a diagnosis shows."""
    law = (
        " Dotted: the derived law, fitted to nothing."
        if any(law["own"] and any(law["values"]) for law in result["laws"])
        else ""
    )
    return (
        f"Diagnosis of the multilevel gradient of {result['title']}: {data_words(result)}. "
        "Variance and mean of the finer level's gradient and of the difference of neighbouring "
        "levels with two standard errors and fitted powers of h, check that the sum telescopes, "
        "kurtosis of the difference, optimal sample numbers N_l for relative errors ε, and cost "
        f"of an error.{law}"
    )


def comparison_caption(results: list[Record]) -> str:
    """What the figure of several diagnoses shows."""
    first = results[0]
    return (
        "Left: variance of the difference of neighbouring levels' gradients, in units of the "
        "variance of the finest level's gradient, with two standard errors; lines: fitted powers, "
        "V ∝ h^β. Right: cost of an estimate of the finest mean gradient against its relative "
        f"error, in {first['errors']['unit']}; lines are forecasts, points measured over "
        f"{first['choices']['repetitions']} repetitions with 95 % intervals. {data_words(first)}."
    )


def sentences(result: Record) -> list[str]:
    """Orders, what they mean, and what an error costs."""
    group = present.whole(as_document(result))
    gamma = present.chosen_cost(as_document(result))["gamma"]
    orders = ", ".join(
        f"{name} = {_order(r)}"
        for name, r in (("α", group["alpha"]), ("β", group["beta"]), ("γ", gamma))
    )
    laws = [
        f"law of {name} {law['order']:+.3g}".replace("-", "−")
        for law in result["laws"]
        for name in [{"alpha": "α", "beta": "β"}[law["symbol"]]]
        if law["own"] and law["order"] is not None
    ]
    checks = [c for c in group["check"] if c is not None]
    telescopes = (
        f"the sum {'telescopes' if max(checks) <= 1.0 else 'does NOT telescope'} "
        f"(largest check {max(checks):.2f}, limit 1)"
        if checks
        else "no check"
    )
    fixed = result["complexity"]["fixed_finest_mesh"]["ratio"]
    found = [f"{result['title']}: {'; '.join([orders, *laws])}; {telescopes}."]
    cost = "–" if fixed is None else f"{fixed:.3g}"
    finest = result["levels"][-1]["n"]
    line = f"at equal variance multilevel costs {cost} of the single level on n={finest}"
    measured = [
        f for f in result["errors"]["forecasts"] if f["measured"] and f["estimator"] == "multilevel"
    ]
    if measured:
        last = measured[-1]
        low, high = (f"{end:.2f}" for end in last["measured"]["ratio_interval"])
        line += (
            f"; for an error of {100 * last['epsilon']:.3g} % its variance, measured, is "
            f"{last['measured']['ratio']:.2f} [{low}, {high}] of the forecast"
        )
    return [*found, f"{result['title']}: {line}."]


def _order(rate: Record) -> str:
    """Order with its interval, or that there is none."""
    if rate["order"] is None:
        return "any power" if rate["decay"] == "faster than algebraic" else "undecided"
    return f"{order_text(rate)} {interval_text(rate)}".replace("-", "−")


def tables_of(name: str, result: Record) -> list[Table]:
    """Tables of levels, of orders and of the cost of an error."""
    document, errors = as_document(result), result["errors"]
    notes = (
        *present.complexity_lines(document),
        *present.warning_lines(document),
        *present.law_lines(document),
        present.component_line(document),
        *result["notes"],
    )
    found = [
        _table(
            f"{name}-levels",
            f"{result['title']}: {data_words(result)}. Norms of means less their sampling error "
            "(~0: not told from zero), traces of covariances; a check above 1 means that the sum "
            "does not telescope; work of a sample of a term, in units of one on the finest mesh.",
            present.LEVELS,
            present.level_rows(document),
            ("check, worst component", "flops", "seconds"),
        ),
        _table(
            f"{name}-orders",
            f"{result['title']}: signed orders with 95 % intervals, mean difference ∝ h^α, "
            "variance of the difference ∝ h^β, cost ∝ h^−γ.",
            present.ORDERS,
            present.order_rows(document),
            (),
            tuple(line[:1].upper() + line[1:] + "." for line in notes),
        ),
    ]
    if errors["forecasts"]:
        found.append(
            _table(
                f"{name}-errors",
                f"{result['title']}: cost of an error on the finest mesh, in {errors['unit']}; "
                f"epsilon relative to the {errors['relative_to']}, {errors['scale']:.3g}.",
                present.ERRORS,
                present.error_rows(document),
                ("measured cost",),
            )
        )
    return found


def _table(
    name: str,
    caption: str,
    header: tuple[str, ...],
    rows: list[list[str]],
    without: tuple[str, ...],
    notes: tuple[str, ...] = (),
) -> Table:
    """Table of some of the columns."""
    kept = [i for i, column in enumerate(header) if column not in without]
    return Table(
        name=name,
        caption=caption,
        header=tuple(header[i] for i in kept),
        rows=tuple(tuple(number_cell(row[i]) for i in kept) for row in rows),
        notes=notes,
    )
