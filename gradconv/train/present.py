"""A finished run at the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def table(document: dict[str, Any]) -> Table:
    """What each leg took and came to, and the test.

    Parameters
    ----------
    document : dict
        Of a `TrainingResult`.
    """
    config = document["configuration"]
    made = Table(
        title=f"{config['task']}, {config['network']} ({document['conv']} convolutions, "
        f"{document['parameters']} parameters), {config['strategy']}"
    )
    for name in ("leg", "finest mesh", "steps", "work units", "FLOPs", "seconds"):
        made.add_column(name, justify="right")
    for name in ("MSE", "PSNR, dB", "SSIM"):
        made.add_column(f"validation {name}", justify="right")
    sizes = document["levels"]
    for leg in document["legs"]:
        made.add_row(
            str(leg["leg"]), f"{sizes[leg['finest']]}²", *_cost(leg), *_scores(leg["validation"])
        )
    made.add_section()
    made.add_row("all", "test", *_cost(document["totals"]), *_scores(document["test"]))
    if document["degraded"] is not None:
        made.add_row("", "input", "", "", "", "", *_scores(document["degraded"]))
    return made


def lines(document: dict[str, Any]) -> list[str]:
    """Return what the table has no column for."""
    found = [
        f"largest pass {document['peak_bytes'] / 2**20:.4g} MiB; {document['test_tiles']} test "
        "tiles of photographs not trained on; validation and test on the finest mesh"
    ]
    return found + list(document["notes"])


def _cost(record: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(record["steps"]),
        f"{record['work']:.5g}",
        f"{record['flops']:.3g}",
        f"{record['seconds']:.2f}",
    )


def _scores(record: dict[str, float | None]) -> tuple[str, ...]:
    styles = {"mse": ".3e", "psnr": ".2f", "ssim": ".3f"}
    values = ((record[name], style) for name, style in styles.items())
    return tuple("–" if value is None else format(value, style) for value, style in values)
