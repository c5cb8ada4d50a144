"""Train what the configuration says: ``python studies/training/run.py [BLOCK ...] [--workers N]``.

Each run is kept in ``runs/COMMIT/`` as it ends, so that an interrupted study goes on; a block whose
runs are all there is written to ``results/BLOCK.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

from gradconv.parallel import compute
from gradconv.provenance import configuration_hash, provenance
from gradconv.store import write_atomically
from gradconv.train import TrainingConfig
from gradconv.train.logs import COLUMNS, read_table
from gradconv.train.trainer import Trainer

HERE = Path(__file__).resolve().parent
RUNS, RESULTS = HERE / "runs", HERE / "results"
SCHEMA = "gradconv.training-study/1"
KEPT = ("test", "degraded", "totals", "legs", "peak_bytes", "parameters", "notes")
Choices = dict[str, Any]


def setup() -> Choices:
    """The configuration."""
    return tomllib.loads((HERE / "configuration.toml").read_text(encoding="utf-8"))


def runs_of(block: Choices, study: Choices) -> list[Choices]:
    """Choices of every run of a block, setups outermost and seeds innermost."""
    names = list(study["setups"]) if block["setups"] == "all" else block["setups"]
    axes = block.get("axes", {})
    return [
        {
            "label": {"setup": name, **variant, **dict(zip(axes, values, strict=True))},
            "options": {
                **study["base"],
                **study["setups"][name],
                **block.get("base", {}),
                **variant,
                **dict(zip(axes, values, strict=True)),
                "seed": seed,
            },
        }
        for name in names
        for values in product(*axes.values())
        for variant in block["variants"]
        for seed in study["seeds"]
    ]


def config_of(run: Choices) -> TrainingConfig:
    """All choices of a run."""
    return TrainingConfig.read(None, {k: _tuple(v) for k, v in run["options"].items()})


def train(run: Choices) -> Choices:
    """One run, or what is kept of it."""
    config = config_of(run)
    path = RUNS / run["source"] / f"{configuration_hash(config.identity())[:24]}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        document = Trainer.from_config(config).fit(folder).document
        curves = {
            table: [COLUMNS[table], *read_table(Path(folder), table)]
            for table, wanted in (
                ("validation", config.validate_every),
                ("levels", config.moments_every),
            )
            if wanted
        }
    if "levels" in curves:  # only the rows in which moments were measured
        head, *rows = curves["levels"]
        curves["levels"] = [head, *(row for row in rows if row[-1])]
    kept = {
        **{key: document[key] for key in KEPT},
        "sizes": document["levels"],
        "configuration_hash": document["provenance"]["configuration_hash"],
        "curves": curves,
    }
    write_atomically(path, json.dumps(kept).encode())
    return kept


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def origin_of(block: Choices, study: Choices) -> Choices:
    """Where the runs of a block come from; to be asked before any result is written."""
    kept = ("base", "setups", "seeds")
    configuration = {"block": block, **{key: study[key] for key in kept}}
    device = str({**study["base"], **block.get("base", {})}["device"])
    return provenance(configuration, study["seeds"][0], device, "float32")


def write(block: Choices, origin: Choices, runs: list[Choices], found: list[Choices]) -> None:
    """Put the runs of a block together."""
    records = [
        {**run["label"], "seed": run["options"]["seed"], **one}
        for run, one in zip(runs, found, strict=True)
    ]
    document = {"schema": SCHEMA, "block": block["name"], "provenance": origin, "runs": records}
    text = json.dumps(document, indent=None, separators=(",", ":"))
    text = text.replace('{"setup"', '\n{"setup"')  # a line a run
    write_atomically(RESULTS / f"{block['name']}.json", (text + "\n").encode())


def main() -> None:
    """Run the blocks that are named, or all that this machine is for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blocks", nargs="*")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    study = setup()
    blocks = {block["name"]: block for block in study["block"]}
    wanted = arguments.blocks or [n for n, b in blocks.items() if "hardware" not in b]
    origins = {name: origin_of(blocks[name], study) for name in wanted}
    for name in wanted:
        origin = origins[name]
        source = (origin["commit"] or "none")[:12] + ("-dirty" if origin["dirty"] else "")
        runs = [{**run, "source": source} for run in runs_of(blocks[name], study)]
        found: list[Any] = [None] * len(runs)
        results = compute(train, runs, workers=arguments.workers)
        for done, (index, one) in enumerate(results, 1):
            found[index] = one
            print(
                f"{name} {done}/{len(runs)}: {runs[index]['label']} mse {one['test']['mse']:.4g} "
                f"in {one['totals']['seconds']:.1f} s",
                file=sys.stderr,
                flush=True,
            )
        write(blocks[name], origin, runs, found)


if __name__ == "__main__":
    main()
