"""``gradconv claims``: the command line of the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gradconv.terminal import folder, make_console


@click.command("claims")
@click.option(
    "--only",
    multiple=True,
    metavar="ID",
    help="Claims to assess, by id or number; several with commas or by repeating the option.",
)
@click.option(
    "--results",
    callback=folder,
    metavar="DIR",
    help="Folder of stored results, ID.json each. Default: studies/claims/data.",
)
@click.option(
    "-o",
    "--output",
    callback=folder,
    metavar="DIR",
    help="Folder for claims.json, claims.md, claims.tex and a figure of each claim.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of the table."
)
def claims_command(
    only: tuple[str, ...], results: Path | None, output: Path | None, as_json: bool
) -> None:
    """Hold the paper's claims against law and measurement, and judge each by rule.

    Claims on orders and on scale are measured on the spot; the others need stored results with
    provenance, and are not yet measured without.
    """
    from gradconv.claims.ledger import ledger, read_results, select

    claims = select(only)
    stored = read_results(results)
    document = ledger(claims, stored)
    if output is not None:
        write(output, document)
    if as_json:
        import json

        click.echo(json.dumps(document, allow_nan=False))
        return
    from gradconv.claims import present

    console = make_console()
    console.print(present.table(document))
    for line in present.footnotes(document):
        console.print(line, style="dim", markup=False)
    if output is not None:
        from gradconv.figures import KINDS

        names = ", ".join(c["id"] for c in document["claims"])
        console.print(
            f"Written to {output}: claims.json, claims.md, claims.tex and {'/'.join(KINDS)} of "
            f"{names}",
            markup=False,
        )


def write(folder: Path, document: dict[str, Any]) -> None:
    """Write the ledger's document, its tables and its figures into a folder.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    document : dict
        What `gradconv.claims.ledger.ledger` gives.
    """
    import json

    from gradconv.claims import present
    from gradconv.claims.figures import claim_figure
    from gradconv.store import write_atomically, write_figure

    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_atomically(folder / "claims.json", text.encode())
    write_atomically(folder / "claims.md", present.markdown(document).encode())
    write_atomically(folder / "claims.tex", present.latex(document).encode())
    for claim in document["claims"]:
        write_figure(folder / claim["id"], claim_figure(claim))
