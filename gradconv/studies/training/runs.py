"""The runs of a block: their choices, and one of them trained, or what is kept of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from gradconv.errors import InputError, shortened, unknown_name
from gradconv.provenance import configuration_hash
from gradconv.store import write_atomically
from gradconv.train import TrainingConfig

Record = dict[str, Any]

KEPT = ("test", "degraded", "totals", "legs", "peak_bytes", "parameters", "notes")
KEYS = ("setups", "variants", "axes", "base", "common")
# What a run has where its configuration is silent. Noise was drawn on the finest mesh when the
# first runs were made, whose configurations do not say so.
UNSAID = {"drawn": "finest"}
WHOLE = "all"


def part_of(name: str, block: object, shared: Mapping[str, Any]) -> Record:
    """Configuration of a block, checked with all its runs; nothing is trained.

    Parameters
    ----------
    name : str
        Name of the block.
    block : dict
        ``setups`` ("all" or names), ``variants`` (tables of options), and, if wanted, ``axes``
        (lists of values, of which the product is taken), ``base`` (options of this block) and
        ``common`` (options beside those that all blocks share).
    shared : mapping
        ``base`` (options), ``setups`` (tables of options), ``seeds``.

    Returns
    -------
    dict
        ``block``, ``base``, ``setups``, ``seeds``.

    Raises
    ------
    InputError
        If a choice breaks a rule.
    """
    where = f"block.{name}"
    if not isinstance(block, dict):
        raise InputError(f"`{where}` must be a table; got {shortened(block)}")
    for key in block:
        if key not in KEYS:
            raise unknown_name(f"key of {where}", key, KEYS)
    for key in ("axes", "base", "common"):
        if not isinstance(block.get(key, {}), dict):
            raise InputError(f"`{where}.{key}` must be a table; got {shortened(block[key])}")
    for key, values in block.get("axes", {}).items():
        if not isinstance(values, list) or not values:
            raise InputError(
                f"`{where}.axes.{key}` must be a list with entries; got {shortened(values)}"
            )
    variants = block.get("variants")
    if not isinstance(variants, list) or not variants or not all(map(_is_table, variants)):
        raise InputError(f"`{where}.variants` must be a list of tables; got {shortened(variants)}")
    setups = block.get("setups")
    if setups != WHOLE and (not isinstance(setups, list) or not setups):
        raise InputError(
            f"`{where}.setups` must be {WHOLE!r} or a list of names; got {shortened(setups)}"
        )
    for setup in [] if setups == WHOLE else setups:
        if setup not in shared["setups"]:
            raise unknown_name(f"{where}.setups", setup, shared["setups"])
    part = {
        "block": {"name": name, **{k: v for k, v in block.items() if k != "common"}},
        "base": {**shared["base"], **block.get("common", {})},
        "setups": shared["setups"],
        "seeds": shared["seeds"],
    }
    found = set()
    for run in runs_of(part):
        try:
            mark = configuration_hash(config_of(_anywhere(run)).identity())
        except InputError as error:
            raise InputError(f"`{where}`, {_name(run)}: {error}") from None
        if mark in found:
            raise InputError(f"`{where}` must not have a run twice; got {_name(run)} again")
        found.add(mark)
    return part


def _anywhere(run: Record) -> Record:
    """The run on a CPU: whether there is a GPU is no matter of the configuration."""
    options = run["options"]
    on_gpu = str(options.get("device", "")).startswith("cuda")
    return {**run, "options": {**options, "device": "cpu"}} if on_gpu else run


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _name(run: Record) -> str:
    words = ", ".join(str(value) for value in run["label"].values())
    return f"{words}, seed {run['options'].get('seed')}"


def runs_of(part: Mapping[str, Any]) -> list[Record]:
    """Choices of every run of a block, setups outermost and seeds innermost.

    Parameters
    ----------
    part : mapping
        What `part_of` gives.

    Returns
    -------
    list of dict
        ``label``, what tells the run from others beside its seed, and ``options``.
    """
    block = part["block"]
    names = list(part["setups"]) if block["setups"] == WHOLE else block["setups"]
    axes = block.get("axes", {})
    return [
        {
            "label": {"setup": name, **variant, **dict(zip(axes, values, strict=True))},
            "options": {
                **UNSAID,
                **part["base"],
                **part["setups"][name],
                **block.get("base", {}),
                **variant,
                **dict(zip(axes, values, strict=True)),
                "seed": seed,
            },
        }
        for name in names
        for values in product(*axes.values())
        for variant in block["variants"]
        for seed in part["seeds"]
    ]


def config_of(run: Mapping[str, Any]) -> TrainingConfig:
    """All choices of a run."""
    known = TrainingConfig.__dataclass_fields__
    for name in run["options"]:
        if name not in known:
            raise unknown_name("option", name, known)
    return TrainingConfig.read(None, {k: as_tuple(v) for k, v in run["options"].items()})


def as_tuple(value: Any) -> Any:
    """A list as the tuple that `TrainingConfig` takes."""
    return tuple(value) if isinstance(value, list) else value


def train(run: Mapping[str, Any]) -> Record:
    """Train one run, or read what is kept of it.

    Parameters
    ----------
    run : mapping
        ``label`` and ``options``, and ``folder``, where its result is kept.

    Returns
    -------
    dict
        JSON values: label, seed, scores, costs, legs and logs.
    """
    from gradconv.train.logs import COLUMNS, read_table
    from gradconv.train.trainer import Trainer

    config = config_of(run)
    mark = configuration_hash(config.identity())
    path = Path(run["folder"]) / f"{mark[:24]}.json"
    if path.exists():
        kept: Record = json.loads(path.read_text(encoding="utf-8"))
        return kept
    with tempfile.TemporaryDirectory() as folder:
        document = Trainer.from_config(config).fit(folder).document
        logs = {
            table: [list(COLUMNS[table]), *read_table(Path(folder), table)]
            for table, wanted in (
                ("validation", config.validate_every),
                ("levels", config.moments_every),
            )
            if wanted
        }
    if "levels" in logs:  # only the rows in which moments were measured
        head, *rows = logs["levels"]
        logs["levels"] = [head, *(row for row in rows if row[-1])]
    kept = {
        **run["label"],
        "seed": config.seed,
        **{key: document[key] for key in KEPT},
        "sizes": document["levels"],
        "configuration_hash": document["provenance"]["configuration_hash"],
        "curves": logs,
    }
    write_atomically(path, json.dumps(kept).encode())
    return kept
