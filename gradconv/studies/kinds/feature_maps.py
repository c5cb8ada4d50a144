"""Feature maps of networks on one photograph at several resolutions."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from gradconv.errors import InputError, check_whole, unknown_name
from gradconv.fields import SIGNALS, SamplePath
from gradconv.figures import Style
from gradconv.mesh import Mesh
from gradconv.nn import UnresolvedKernelWarning
from gradconv.nn.feature_map_figure import draw_feature_maps
from gradconv.nn.feature_maps import FeatureMaps, feature_maps
from gradconv.nn.networks import ResNet
from gradconv.studies.kinds.base import (
    KINDS,
    Origin,
    Record,
    Results,
    StudyFigure,
    StudyKind,
    Workplace,
)
from gradconv.tables import Table

NETWORKS = {"standard 3×3": "standard", "mesh-free": "mfc"}
DEFAULTS: Record = {
    "seed": 0,
    "networks": 8,
    "photograph": "astronaut",
    "finest": 512,
    "steps": 2,
    "layers": 6,
    "channels": 16,
}
LEAST = {"seed": 0, "networks": 1, "finest": 8, "steps": 1, "layers": 2, "channels": 1}
CUT = (0.005, 0.995)  # quantiles of the finest map that the shades span
SHADES = 255
UNRESOLVED = (
    "Some mesh-free kernels are narrower than a cell of the coarser meshes, which do not resolve "
    "them."
)


@KINDS.register("feature_maps")
class FeatureMapStudy(StudyKind):
    """ResNets with random weights, standard and mesh-free, `networks` of each; the first drawn."""

    def parts(self, choices: Record) -> dict[str, Record]:
        for name in choices:
            if name not in DEFAULTS:
                raise unknown_name("choice of feature maps", name, DEFAULTS)
        part = {**DEFAULTS, **choices}
        for name, least in LEAST.items():
            check_whole(name, part[name], least)
        if part["finest"] % 2 ** part["steps"]:
            raise InputError(
                f"`finest` must be halved {part['steps']} times to whole numbers; "
                f"got {part['finest']}"
            )
        _photograph(part)
        return {"maps": part}

    def origin(self, part: Record) -> Origin:
        return Origin(part["seed"], dtype="float32", packages=("scikit-image",))

    def measure(self, part: Record, work: Workplace) -> Record:
        image = _photograph(part).draw(
            Mesh(2, part["finest"]), "cell", 3, SamplePath(part["seed"], 0, "signal")
        )
        found: dict[str, Record] = {name: {"differences": []} for name in NETWORKS}
        sizes: tuple[int, ...] = ()
        unresolved = False
        for place in range(part["networks"]):
            networks = {}
            for name, conv in NETWORKS.items():
                seed = torch.Generator().manual_seed(part["seed"] + place)
                networks[name] = ResNet(
                    3,
                    1,
                    layers=part["layers"],
                    channels=part["channels"],
                    conv=conv,
                    generator=seed,
                )
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always", UnresolvedKernelWarning)
                data = feature_maps(networks, image, part["steps"])
            for warning in heard:
                if issubclass(warning.category, UnresolvedKernelWarning):
                    unresolved = True
                else:
                    warnings.showwarning(
                        warning.message, warning.category, warning.filename, warning.lineno
                    )
            sizes = data.sizes
            for name, record in found.items():
                record["differences"].append(list(data.differences[name]))
                if place == 0:
                    record.update(_shades(data.maps[name]))
            work.progress(place + 1, part["networks"])
        return {
            "sizes": list(sizes),
            "photograph": part["photograph"],
            "layers": part["layers"],
            "rounded": (
                f"maps are those of the first network, in shades 0 to {SHADES} from the quantile "
                f"{CUT[0]} to the quantile {CUT[1]} of its finest map, cut there; differences are "
                "of the maps as computed"
            ),
            "unresolved": unresolved,
            "networks": found,
        }

    def figures(self, results: Results, style: Style) -> list[StudyFigure]:
        (result,) = results.values()
        data = FeatureMaps(
            tuple(result["sizes"]),
            {
                name: tuple(np.array(shades)[None] for shades in own["maps"])
                for name, own in result["networks"].items()
            },
            {name: tuple(own["differences"][0]) for name, own in result["networks"].items()},
        )
        return [
            StudyFigure(
                name="feature-maps",
                caption=(
                    f"Output of two ResNets of {result['layers']} layers with random weights on "
                    f"one photograph ({result['photograph']}; unit square) on "
                    f"{len(result['sizes'])} meshes; one scale of shades a row. "
                    "Percent, of the networks drawn: relative difference "
                    "‖map − restricted finest map‖ / ‖restricted finest map‖."
                ),
                alternative=" ".join(self.summary(results)),
                drawing=draw_feature_maps(data, (0,), style=style),
            )
        ]

    def tables(self, results: Results) -> list[Table]:
        (result,) = results.values()
        rows = []
        for name, own in result["networks"].items():
            apart = np.array(own["differences"])[:, :-1]
            for n, values in zip(result["sizes"], apart.T, strict=False):
                rows.append(
                    (
                        name,
                        f"{n} × {n}",
                        _percent(np.median(values)),
                        f"{_percent(values.min())} to {_percent(values.max())}",
                    )
                )
        count, finest = len(apart), result["sizes"][-1]
        return [
            Table(
                "differences",
                f"Relative difference of a feature map from that on {finest} × {finest} cells, "
                f"restricted by averages: median and range of {count} networks with random "
                "weights.",
                ("network", "mesh", "median", "range"),
                tuple(rows),
                notes=(
                    "A photograph has no limit under refinement: these are no orders.",
                    *([UNRESOLVED] if result["unresolved"] else []),
                ),
            )
        ]

    def summary(self, results: Results) -> list[str]:
        (result,) = results.values()
        found = []
        for name, own in result["networks"].items():
            medians = np.median(np.array(own["differences"]), axis=0)[:-1]
            said = ", ".join(
                f"{_percent(v)} on {n}²" for n, v in zip(result["sizes"], medians, strict=False)
            )
            found.append(
                f"{name}: maps on coarser meshes are {said} from those on {result['sizes'][-1]}² "
                f"(median of {len(own['differences'])})."
            )
        return found


def _photograph(part: Record) -> Any:
    return SIGNALS.parse(f"photograph:{part['photograph']}")


def _shades(maps: tuple[np.ndarray, ...]) -> Record:
    low, high = (float(v) for v in np.quantile(maps[-1][0], CUT))
    shades = [
        np.rint(SHADES * np.clip((m[0] - low) / (high - low), 0.0, 1.0)).astype(int).tolist()
        for m in maps
    ]
    return {"low": low, "high": high, "maps": shades}


def _percent(share: float) -> str:
    return f"{100 * float(share):.2g} %"
