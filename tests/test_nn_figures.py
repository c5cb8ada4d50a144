"""Data and figures of kernels and feature maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradconv import InputError
from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d, MeshFreeConv3d, kernel_image
from gradconv.nn.feature_map_figure import draw_feature_maps
from gradconv.nn.feature_maps import feature_maps
from gradconv.nn.kernel_figure import kernel_sheet, layer_kernels


@pytest.mark.parametrize(
    ("layer_type", "n"), [(MeshFreeConv1d, 96), (MeshFreeConv2d, 64), (MeshFreeConv3d, 48)]
)
def test_closed_form_is_what_the_layer_makes_of_a_point(layer_type, n):
    """A unit point source gives the kernel itself at the mesh's points."""
    layer = layer_type(
        2,
        3,
        widths=(1 / 22, 1 / 20),
        terms=2,
        derivatives=2,
        bias=False,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
    )
    x = torch.zeros(1, 2, *(n,) * layer.dim, dtype=torch.float64)
    x[(0, 1, *(n // 2,) * layer.dim)] = float(n**layer.dim)
    with torch.no_grad():
        y = layer(x)[0, 2].numpy()
    s = np.arange(n) / n - 0.5
    points = np.meshgrid(*(s,) * layer.dim, indexing="ij")
    expected = sum(k.values(*points) for k in layer_kernels(layer, 2, 1))
    assert np.abs(y - expected).max() < 1e-6 * np.abs(expected).max()
    # Negative control: the other way round along one axis.
    turned = sum(k.values(-points[0], *points[1:]) for k in layer_kernels(layer, 2, 1))
    assert np.abs(y - turned).max() > 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(("layer_type", "rows"), [(MeshFreeConv1d, 4), (MeshFreeConv2d, 6)])
def test_kernel_image_has_a_row_a_parameter(layer_type, rows, tmp_path):
    layer = layer_type(2, 2, terms=2, derivatives=1)
    sheet = kernel_sheet(layer, 1, 0)
    assert len(sheet.rows) == rows
    own = dict(sheet.rows[0][1])
    assert np.allclose(own["all terms"], own["term 1"] + own["term 2"])
    drift = dict(dict(sheet.rows)["drift b"])
    assert np.argmax(drift["2 widths"]) < np.argmax(drift["b = 0"])
    figure = kernel_image(layer, 1, 0)
    assert len(figure.axes) == sum(len(row) for _, row in sheet.rows)
    figure.savefig(tmp_path / "kernel.png")
    assert (tmp_path / "kernel.png").stat().st_size > 10_000


def test_kernel_image_names_what_is_wrong():
    with pytest.raises(InputError, match="`out_channel` must lie in 0 to 1; got 2"):
        kernel_image(MeshFreeConv2d(1, 2), 2)
    with pytest.raises(InputError, match="`layer` must be a MeshFreeConv; got Conv2d"):
        kernel_image(torch.nn.Conv2d(1, 1, 3))  # type: ignore[arg-type]


def networks() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {
        "standard": torch.nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
        "mesh-free": torch.nn.Sequential(MeshFreeConv2d(1, 2, widths=(1 / 16, 1 / 10))),
    }


def test_feature_maps_of_mesh_free_networks_stay_those_of_standard_ones_do_not():
    t = (np.arange(64) + 0.5) / 64
    image = np.sin(2 * np.pi * (3 * t[:, None] + 5 * t))[None]
    data = feature_maps(networks(), image, 2)
    assert data.sizes == (16, 32, 64)
    assert [m.shape for m in data.maps["standard"]] == [(2, 16, 16), (2, 32, 32), (2, 64, 64)]
    assert data.differences["standard"][0] > 0.2 > 0.05 > data.differences["mesh-free"][0]
    assert data.differences["mesh-free"][-1] == 0.0
    figure = draw_feature_maps(data, (0, 1), "title")
    assert len(figure.axes) == 12


def test_feature_maps_name_what_is_wrong():
    with pytest.raises(InputError, match="`steps` must leave whole meshes; got 3"):
        feature_maps(networks(), np.zeros((1, 12, 12)), 3)
    with pytest.raises(InputError, match="`image` must be finite, of shape"):
        feature_maps(networks(), np.zeros((12, 12)))
    with pytest.raises(InputError, match="`layer` must name a submodule of network 'standard'"):
        feature_maps(networks(), np.zeros((1, 16, 16)), 1, layer="0")
    pooled = {"pooled": torch.nn.AvgPool2d(2)}
    with pytest.raises(InputError, match="on the mesh of its image"):
        feature_maps(pooled, np.zeros((1, 16, 16)), 1)
