"""What an audit found: quantities and rates of the whole, each layer and each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradconv.audit.aliasing import Aliasing
from gradconv.audit.findings import Finding
from gradconv.bootstrap import estimate
from gradconv.errors import InputError, unknown_name
from gradconv.mesh import MeshHierarchy
from gradconv.nn.evaluation import WHOLE
from gradconv.problem import QUANTITIES
from gradconv.rates import Rate
from gradconv.statistics import GradientSample

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

GAPS = ("rms_gap", "mean_gap")
RANKS = ("diverges", "stalls", "undecided", "converges", "exact")
LONG_NAMES = {
    "level_norm": "norm of the mean gradient",
    "bias": "norm of the mean difference to the finest level's gradient",
    "mean_gap": "norm of the mean gap between a level and the next coarser one",
    "rms_gap": "root mean square gap between a level and the next coarser one",
    "variance": "variance of the gap",
    "cosine": "cosine of the mean gradient to the finest level's",
}
UNITS = {"variance": "(loss per parameter)^2", "cosine": "1"}


@dataclass(frozen=True)
class Group:
    """The whole module, a layer (a submodule that owns parameters directly) or a parameter.

    Parameters
    ----------
    name : str
        ``"whole"``, the layer's or the parameter's dotted name; ``"(module)"`` is the module itself
        as the owner of parameters.
    kind : {"whole", "layer", "parameter"}
        Which of the three.
    size : int
        Number of parameters (complex ones count once).
    type : str
        Class of the layer, or shape of the parameter.
    """

    name: str
    kind: str
    size: int
    type: str


@dataclass(frozen=True, eq=False)
class Audit:
    """Gradients of a module over a hierarchy of meshes, and what follows from them.

    Parameters
    ----------
    configuration : dict
        What was audited and how; JSON values.
    hierarchy : MeshHierarchy
        The levels.
    groups : tuple of Group
        The whole, the layers and the parameters, in this order.
    samples : dict of str to GradientSample
        Gradients by group, as isometric coordinates.
    aliasing : Aliasing or None
        Operator-aliasing error of the output; None where outputs cannot be compared.
    findings : tuple of Finding
        Layers that break convergence and why, gravest first.
    notes : tuple of str
        How the module was treated.
    seed : int
        Seed of data, weights of factories and random modules.
    device, dtype : str
        Where and how precisely it was computed.
    confidence : float
        Level of the intervals.
    """

    configuration: dict[str, Any]
    hierarchy: MeshHierarchy
    groups: tuple[Group, ...]
    samples: dict[str, GradientSample]
    aliasing: Aliasing | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    seed: int
    device: str
    dtype: str
    confidence: float = 0.95

    def rate(self, quantity: str = "rms_gap", group: str = WHOLE) -> Rate:
        """Signed order, interval, window and verdict of a quantity of a group.

        Parameters
        ----------
        quantity : {"level_norm", "mean_gap", "rms_gap", "variance"}
            What to fit.
        group : str
            ``"whole"``, or the name of a layer or parameter.

        Raises
        ------
        InputError
            If quantity or group is unknown.
        """
        if quantity not in QUANTITIES:
            raise unknown_name("quantity", quantity, QUANTITIES)
        if group not in self.samples:
            raise unknown_name("group", group, self.samples)
        key = (group, quantity)
        if key not in self._fitted:
            if quantity == "mean_gap" and self.rate("rms_gap", group).verdict == "exact":
                return self.rate("rms_gap", group)  # which bounds it: rounding has no mean
            sample, h = self.samples[group], self.hierarchy.h
            self._fitted[key] = sample.rate(h, quantity, self.confidence, self.seed)
        return self._fitted[key]

    @cached_property
    def _fitted(self) -> dict[tuple[str, str], Rate]:
        return {}

    @property
    def rates(self) -> dict[str, dict[str, Rate]]:
        """Rates by group, then by quantity; fitted on first use."""
        return {g.name: {q: self.rate(q, g.name) for q in QUANTITIES} for g in self.groups}

    @property
    def aliasing_rate(self) -> Rate | None:
        """Signed order of the aliasing error; None where it was not measured."""
        if self.aliasing is None:
            return None
        return self.aliasing.rate(self.confidence, self.seed)

    @property
    def verdict(self) -> str:
        """Verdict of the whole, from its rms and its mean gap: see `group_verdict`."""
        return self.group_verdict()

    def group_verdict(self, group: str = WHOLE) -> str:
        """Worse verdict of a group's rms and mean gap; the rms gap's if the mean's is undecided.

        The order from bad to good is diverges, stalls, undecided, converges, exact. The rms gap
        bounds the mean gap, which often drowns in the sampling error.
        """
        rms, mean = (self.rate(q, group).verdict for q in GAPS)
        return rms if mean == "undecided" else min(rms, mean, key=RANKS.index)

    def layers(self) -> tuple[Group, ...]:
        """The groups that are layers."""
        return tuple(g for g in self.groups if g.kind == "layer")

    def series(self, quantity: str, group: str = WHOLE) -> tuple[np.ndarray, np.ndarray]:
        """Values of a quantity and their standard errors.

        Parameters
        ----------
        quantity : {"level_norm", "bias", "mean_gap", "rms_gap", "variance", "cosine"}
            Level norms, biases and cosines have one value a level, gaps one a pair of levels.
        group : str
            As in `rate`.
        """
        if group not in self.samples:
            raise unknown_name("group", group, self.samples)
        sample = self.samples[group]
        if quantity == "cosine":
            return sample.cosine()
        if quantity == "bias":
            return bias(sample)
        return sample.series(quantity)

    @cached_property
    def data(self) -> xr.Dataset:
        """Labelled results: every quantity of every group, with standard errors and units.

        Dimensions ``group`` and ``level``; quantities of a pair of levels belong to the finer one.
        ``gradient`` holds the whole's gradients of each sample path, as coordinates in an
        orthonormal basis of their span.
        """
        import xarray as xr

        levels = len(self.hierarchy)
        variables: dict[str, Any] = {}
        for quantity, long_name in LONG_NAMES.items():
            found = [self.series(quantity, g.name) for g in self.groups]
            unit = {"units": UNITS.get(quantity, "loss per parameter")}
            for i, (suffix, words) in enumerate((("", ""), ("_stderr", "standard error of "))):
                pads = [(levels - len(f[i]), 0) for f in found]
                rows = [
                    np.pad(np.asarray(f[i], dtype=float), pad, constant_values=np.nan)
                    for f, pad in zip(found, pads, strict=True)
                ]
                attributes = {"long_name": words + long_name, **unit}
                variables[quantity + suffix] = (("group", "level"), np.array(rows), attributes)
        variables["gradient"] = (
            ("replicate", "level", "coordinate"),
            self.samples[WHOLE].gradients,
            {"long_name": "gradient of the whole, isometric", "units": "loss per parameter"},
        )
        if self.aliasing is not None:
            for suffix, values in (("", self.aliasing.values), ("_stderr", self.aliasing.stderr)):
                words = "standard error of " if suffix else ""
                variables["aliasing" + suffix] = (
                    "level",
                    np.concatenate([[np.nan], values]),
                    {"long_name": f"{words}relative operator-aliasing error", "units": "1"},
                )
        return xr.Dataset(
            variables,
            coords={
                "group": ("group", [g.name for g in self.groups]),
                "kind": ("group", [g.kind for g in self.groups]),
                "level": ("level", np.arange(levels), {"long_name": "level, 0 is the coarsest"}),
                "h": ("level", self.hierarchy.h, {"long_name": "mesh size", "units": "box"}),
                "n": ("level", np.array(self.hierarchy.sizes), {"long_name": "cells an axis"}),
            },
            attrs={
                "module": str(self.configuration["module"]),
                "seed": self.seed,
                "device": self.device,
                "dtype": self.dtype,
                "notes": "; ".join(self.notes),
            },
        )

    def table(self, kinds: Sequence[str] = ("whole", "layer")) -> Table:
        """Lay the rates of the gaps out for the terminal.

        Parameters
        ----------
        kinds : sequence of {"whole", "layer", "parameter"}
            Which groups to show.
        """
        from gradconv.audit.present import table

        return table(self.to_dict(), kinds)

    def to_dict(self) -> dict[str, Any]:
        """Everything as one JSON document of the schema ``gradconv.audit/1``, with provenance."""
        from gradconv.audit.present import document

        return document(self)

    def save(self, folder: str | Path) -> None:
        """Write ``audit.json``, ``audit.nc``, ``table.md`` and ``figure.png/pdf/svg``.

        Parameters
        ----------
        folder : str or Path
            Made if it is missing; files of these names are replaced.

        Raises
        ------
        InputError
            If `folder` is a file.
        StorageError
            If it cannot be written.
        """
        from gradconv.audit.present import write

        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise InputError(f"`folder` must be a folder; got the file {path}")
        write(self, path)


def bias(sample: GradientSample) -> tuple[np.ndarray, np.ndarray]:
    """‖E[g_l − g_L]‖ with standard errors, one a level; zero on the finest."""
    differences = sample.gradients - sample.gradients[:, -1:]
    if sample.exact:
        values = np.linalg.norm(differences[0], axis=-1)
        return values, np.zeros_like(values)
    return estimate(differences)
