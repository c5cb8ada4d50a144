"""Audit every layer on every case: ``python studies/comparators/run.py`` (extra ``compare``)."""

from __future__ import annotations

import json
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from layers import LAYERS

from gradconv.audit import audit
from gradconv.provenance import provenance

HERE = Path(__file__).resolve().parent
PACKAGES = ("neuraloperator", "torch-harmonics")
KEPT = ("quantity", "values", "order", "order_interval", "verdict", "reason")


def main() -> None:
    """Run what the configuration says, or the layers named, and write results.json and table.md."""
    setup = tomllib.loads((HERE / "configuration.toml").read_text(encoding="utf-8"))
    # Before the work, which takes minutes: it tells what is about to run.
    origin = provenance(setup, setup["seed"], "cpu", setup["dtype"])
    chosen = sys.argv[1:] or list(LAYERS)
    found = []
    if sys.argv[1:]:
        stored = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
        found = [a for a in stored["audits"] if a["layer"] not in chosen]
    for name in chosen:
        factory, source, finest = LAYERS[name]
        for case in setup["case"]:
            levels = tuple(n // (max(setup["levels"]) // (finest or max(setup["levels"])))
                           for n in setup["levels"])  # fmt: skip
            result = audit(
                factory,
                dim=2,
                hierarchy=levels,
                signal=setup["signal"],
                noise=case["noise"],
                restriction=case["restriction"],
                replicates=setup["replicates"],
                seed=setup["seed"],
                dtype=setup["dtype"],
                memory=setup["memory"],
            )
            found.append(record(name, source, case["name"], result.to_dict()))
            print(f"{name}, {case['name']}: {found[-1]['verdict']}", file=sys.stderr)
    found.sort(key=lambda a: list(LAYERS).index(a["layer"]))
    origin["versions"] |= {package: metadata.version(package) for package in PACKAGES}
    document = {"schema": "gradconv.comparators/1", "provenance": origin, "audits": found}
    (HERE / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (HERE / "table.md").write_text(markdown(document), encoding="utf-8")


def record(name: str, source: str, case: str, document: dict[str, Any]) -> dict[str, Any]:
    """Keep of an audit what the table and its readers need."""
    whole = [r for r in document["rates"] if r["group"] == "whole"]
    aliasing = document["aliasing"]
    return {
        "layer": name,
        "source": source,
        "case": case,
        "parameters": whole[0]["parameters"],
        "h": whole[0]["h"],
        "verdict": document["verdict"],
        "rates": [{key: r[key] for key in KEPT} for r in whole],
        "aliasing": aliasing and {k: aliasing[k] for k in (*KEPT[1:], "stderr")},
        "findings": document["findings"],
        "notes": document["notes"],
        **{k: document["provenance"][k] for k in ("commit", "dirty", "configuration_hash")},
    }


def markdown(document: dict[str, Any]) -> str:
    """One row an audit, then every finding."""
    setup, origin = document["provenance"]["configuration"], document["provenance"]
    lines = [
        "# Published layers under refinement",
        "",
        f"{setup['question']} Signal {setup['signal']}, {setup['levels'][0]} to "
        f"{setup['levels'][-1]} cells an axis (LocalNO and the sphere: half of that), "
        f"{setup['replicates']} "
        f"sample paths, {setup['dtype']}, coarse levels from the finest one. Orders are signed: "
        "gap ~ C·h^order, negative is divergence; brackets are 95 % intervals. Aliasing: relative "
        "difference of the output between the two finest meshes on one band-limited input.",
        "",
        "| layer | case | rms gap | mean gap | verdict | aliasing | reasons |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for audited in document["audits"]:
        rates = {r["quantity"]: r for r in audited["rates"]}
        cells = [
            f"{audited['layer']} ({audited['source']})",
            audited["case"],
            order(rates["rms_gap"]),
            order(rates["mean_gap"]),
            audited["verdict"],
            aliasing(audited["aliasing"]),
            reasons(audited["findings"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## Findings", ""]
    for audited in document["audits"]:
        lines += [
            f"- {audited['layer']}, {audited['case']}: {f['severity']}: {f['layer']}: "
            f"{f['cause']}: {f['sentence']}"
            for f in audited["findings"]
        ]
    versions = ", ".join(f"{p} {origin['versions'][p]}" for p in (*PACKAGES, "torch", "numpy"))
    commit = (origin["commit"] or "none")[:12] + (" (dirty)" if origin["dirty"] else "")
    lines += [
        "",
        f"{versions}; configuration {origin['configuration_hash'][:12]}, commit {commit}.",
    ]
    return "\n".join(lines) + "\n"


def order(rate: dict[str, Any]) -> str:
    """Order with its interval."""
    if rate["order"] is None:
        return rate["verdict"]
    low, high = rate["order_interval"]
    return f"{rate['order']:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")


def aliasing(found: dict[str, Any] | None) -> str:
    """Finest error and its order."""
    if found is None:
        return "–"
    text = f"{found['values'][-1]:.1e}"
    return text if found["order"] is None else f"{text}, order {found['order']:+.1f}"


def reasons(findings: list[dict[str, Any]]) -> str:
    """Grave causes, each once, with the layers it is at."""
    grave: dict[str, list[str]] = {}
    for f in findings:
        if f["severity"] in ("breaks", "suspect"):
            grave.setdefault(f["cause"], []).append(f["layer"])
    return "; ".join(cause + where(layers) for cause, layers in grave.items())


def where(layers: list[str]) -> str:
    """Name the layers of a cause, the first two of many."""
    if layers == ["(module)"]:
        return ""
    more = f" and {len(layers) - 2} more" if len(layers) > 3 else ""
    return f" ({', '.join(layers[:2] if more else layers)}{more})"


if __name__ == "__main__":
    main()
