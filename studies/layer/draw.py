"""Draw kernels and feature maps: ``python studies/layer/draw.py``."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import torch

from gradconv.fields import SIGNALS, SamplePath
from gradconv.mesh import Mesh
from gradconv.nn import MeshFreeConv2d, kernel_image
from gradconv.nn.feature_maps import draw_feature_maps, feature_maps
from gradconv.nn.networks import ResNet
from gradconv.provenance import provenance

HERE = Path(__file__).resolve().parent
NETWORKS = {"standard 3×3": "standard", "mesh-free": "mfc"}


def main() -> None:
    """Write kernel.png, feature_maps.png and layer.json."""
    setup = tomllib.loads((HERE / "configuration.toml").read_text(encoding="utf-8"))
    # Before anything is written, which would make the tree another one.
    origin = provenance(setup, setup["feature_maps"]["seed"], "cpu", "float32")
    kernels(setup["kernel"])
    document = {
        "schema": "gradconv.layer/1",
        "provenance": origin,
        "feature_maps": maps(setup["feature_maps"]),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (HERE / "layer.json").write_text(text + "\n", encoding="utf-8")


def kernels(setup: dict[str, Any]) -> None:
    """One row a parameter of a kernel."""
    layer = MeshFreeConv2d(
        1,
        1,
        widths=tuple(setup["widths"]),
        terms=setup["terms"],
        derivatives=setup["derivatives"],
        generator=torch.Generator().manual_seed(setup["seed"]),
    )
    kernel_image(layer).savefig(HERE / "kernel.png", dpi=110)


def maps(setup: dict[str, Any]) -> dict[str, Any]:
    """Two networks on one photograph at several resolutions."""
    photograph = SIGNALS.parse(f"photograph:{setup['photograph']}")
    path = SamplePath(0, 0, "signal")
    image = photograph.draw(Mesh(2, setup["finest"]), "cell", 3, path)
    networks = {}
    for name, conv in NETWORKS.items():
        seed = torch.Generator().manual_seed(setup["seed"])
        networks[name] = ResNet(
            3, 1, layers=setup["layers"], channels=setup["channels"], conv=conv, generator=seed
        )
    data = feature_maps(networks, image, setup["steps"])
    title = f"Two random networks of {setup['layers']} layers on one photograph"
    draw_feature_maps(data, (setup["shown"],), title).savefig(HERE / "feature_maps.png", dpi=100)
    return {"sizes": data.sizes, "relative_differences": data.differences}


if __name__ == "__main__":
    main()
