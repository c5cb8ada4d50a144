"""Kernels and feature maps as studies: closed forms, what is rounded, and bad choices."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gradconv.errors import InputError
from gradconv.figures import TALLEST, find_style
from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d
from gradconv.nn.feature_maps import feature_maps
from gradconv.nn.kernel_figure import GaussianKernel, kernel_sheet, layer_kernels
from gradconv.nn.networks import ResNet
from gradconv.studies.kinds import KINDS, Workplace
from gradconv.studies.kinds.kernels import _moments

KERNELS, MAPS = KINDS["kernels"], KINDS["feature_maps"]
SMALL = {"networks": 2, "finest": 64, "steps": 1, "layers": 2, "channels": 2, "seed": 2}


def measured(kind: object, choices: dict, tmp_path: Path) -> dict:
    work = Workplace(tmp_path)
    parts = kind.parts(choices).items()  # type: ignore[attr-defined]
    return {name: kind.measure(part, work) for name, part in parts}  # type: ignore[attr-defined]


# ---- kernels ----


@pytest.mark.parametrize("layer_type", [MeshFreeConv1d, MeshFreeConv2d])
def test_moments_in_closed_form_are_those_by_quadrature(layer_type: type) -> None:
    layer = layer_type(
        1,
        1,
        widths=(1 / 40, 1 / 30),
        terms=3,
        derivatives=2,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(1),
    )
    terms = tuple(layer_kernels(layer))
    assert _moments(terms, 1 / 30)["off"] < 1e-9
    # Negative controls: a formula with another sign of b, and without the prefactor's last term.
    honest = GaussianKernel.moments
    for change in (
        lambda k: GaussianKernel(k.coefficients, k.diffusion, -k.drift),
        lambda k: GaussianKernel(np.r_[k.coefficients[:-1], 0.0], k.diffusion, k.drift),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(GaussianKernel, "moments", lambda k, change=change: honest(change(k)))
            assert _moments(terms, 1 / 30)["off"] > 1e-4


def test_a_derivative_has_no_mass_and_a_moment() -> None:
    def kernel(*coefficients: float) -> GaussianKernel:
        return GaussianKernel(np.array(coefficients), 0.02 * np.eye(1), np.array([0.1]))

    assert kernel(2.0).moments()[0] == 2.0
    mass, first, second = kernel(0.0, 1.0, 0.0).moments()
    assert (mass, first.tolist()) == (0.0, [-1.0])
    assert second[0, 0] == pytest.approx(0.2)  # ∫ s² ∂f = −2 ∫ s f, about −b
    assert kernel(0.0, 0.0, 1.0).moments()[2][0, 0] == 2.0


@pytest.mark.parametrize("dim", [1, 2])
def test_kernels_are_stored_to_what_is_said(dim: int, tmp_path: Path) -> None:
    choices = {"dim": dim, "points": 21, "seed": 3}
    results = measured(KERNELS, choices, tmp_path)
    layer = (MeshFreeConv1d, MeshFreeConv2d)[dim - 1](
        1,
        1,
        widths=(1 / 64, 1 / 32),
        terms=2,
        derivatives=2,
        generator=torch.Generator().manual_seed(3),
    )
    sheet = kernel_sheet(layer, points=21)
    (result,) = results.values()
    for (_, row), stored in zip(sheet.rows, result["rows"], strict=True):
        for (label, values), panel in zip(row, stored["panels"], strict=True):
            assert panel["label"] == label
            kept = np.array(panel["values"]) / result["steps"] * panel["largest"]
            assert np.abs(kept - values).max() <= 0.5001 / result["steps"] * panel["largest"]
    table = {(r[0], r[1]): r[2:] for r in KERNELS.tables(results)[0].rows}
    drift = table["drift b", "1 width"]
    assert drift[:2] == ("1.000", "(−1.00)" if dim == 1 else "(−1.00, 0.00)")
    assert table["diffusion A", "A / 4"][2] == ", ".join(["0.50"] * dim)
    assert table["derivative", "∂₁"][:3] == ("0", "–", "–")
    for name in ("screen", "one-column", "two-column"):
        style = find_style(name)
        (figure,) = KERNELS.figures(results, style)
        assert figure.drawing.get_figwidth() == style.column
        assert figure.drawing.get_figheight() < TALLEST


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"width": 1}, "did you mean 'widths'"),
        ({"dim": 3}, "`dim` must be 1 or 2; got 3"),
        ({"points": 20}, "`points` must be an odd number of at least 9"),
        ({"seed": -1}, "`seed` must be a whole number from 0"),
        ({"widths": [0.1, -0.1]}, "`widths`"),
        ({"terms": 0}, "`terms`"),
    ],
)
def test_bad_choices_of_kernels_are_named(choice: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        KERNELS.parts(choice)


# ---- feature maps ----


def test_feature_maps_are_stored_to_what_is_said(tmp_path: Path) -> None:
    results = measured(MAPS, SMALL, tmp_path)
    (result,) = results.values()
    assert result["sizes"] == [32, 64]
    assert result["unresolved"]  # kernels of 1/64 on 32 cells
    assert any("do not resolve" in note for note in MAPS.tables(results)[0].notes)
    image = photograph(64)
    for name, conv in (("standard 3×3", "standard"), ("mesh-free", "mfc")):
        own = result["networks"][name]
        assert len(own["differences"]) == 2
        assert own["differences"][0] != own["differences"][1]
        network = ResNet(
            3, 1, layers=2, channels=2, conv=conv, generator=torch.Generator().manual_seed(2)
        )
        with pytest.warns() if conv == "mfc" else pytest.MonkeyPatch.context():
            data = feature_maps({"one": network}, image, 1)
        assert data.differences["one"] == tuple(own["differences"][0])
        for shades, values in zip(own["maps"], data.maps["one"], strict=True):
            kept = own["low"] + (own["high"] - own["low"]) * np.array(shades) / 255
            wanted = np.clip(values[0], own["low"], own["high"])
            assert np.abs(kept - wanted).max() <= 0.5001 / 255 * (own["high"] - own["low"])


def photograph(finest: int) -> np.ndarray:
    from gradconv.fields import SIGNALS, SamplePath
    from gradconv.mesh import Mesh

    path = SamplePath(2, 0, "signal")
    return SIGNALS.parse("photograph:astronaut").draw(Mesh(2, finest), "cell", 3, path)


def test_sentences_and_tables_are_those_of_the_differences(tmp_path: Path) -> None:
    results = measured(MAPS, SMALL, tmp_path)
    (result,) = results.values()
    for name, own in result["networks"].items():
        own["differences"] = [[0.2, 0.0], [0.4, 0.0], [0.9, 0.0]]
        assert f"{name}: maps on coarser meshes are 40 % on 32²" in " ".join(MAPS.summary(results))
    assert MAPS.tables(results)[0].rows[0] == ("standard 3×3", "32 × 32", "40 %", "20 % to 90 %")
    for name in ("screen", "one-column", "two-column"):
        style = find_style(name)
        (figure,) = MAPS.figures(results, style)
        assert figure.drawing.get_figwidth() == style.column  # two meshes; more take the page
        titles = [axis.get_title() for axis in figure.drawing.axes]
        assert titles[:2] == ["32 × 32\n20 % from the finest", "64 × 64\nfinest"]


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"layer": 1}, "did you mean 'layers'"),
        ({"finest": 100, "steps": 3}, "`finest` must be halved 3 times to whole numbers; got 100"),
        ({"layers": 1}, "`layers` must be a whole number from 2"),
        ({"networks": 0}, "`networks` must be a whole number from 1"),
        ({"channels": math.pi}, "`channels` must be a whole number"),
        ({"photograph": "astronot"}, "astronaut"),
    ],
)
def test_bad_choices_of_feature_maps_are_named(choice: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        MAPS.parts(choice)
