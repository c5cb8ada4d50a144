"""The atlas: which cells there are, which are one problem, and what is kept on disk."""

from __future__ import annotations

import gzip
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gradconv import MeshHierarchy, Problem
from gradconv.atlas import build, critical, figures, present, unit
from gradconv.atlas.cells import (
    CHOICES,
    SPECS,
    Cell,
    enumerate_cells,
    evaluable,
    hierarchy_for,
    names,
    one_restriction,
    representative,
)
from gradconv.atlas.exact import (
    Group,
    derived_parts,
    derived_spectra,
    measured_parts,
    measured_spectra,
)
from gradconv.atlas.sampled import draw_inputs, draw_targets, gradients
from gradconv.cli import app
from gradconv.errors import InputError
from gradconv.fields import NOISES, TARGETS
from gradconv.gradient import expected_gradients
from gradconv.kernels import KERNELS
from gradconv.laws import derive
from gradconv.laws.lattice import mean_gradients
from gradconv.laws.mean import mean_terms
from gradconv.problem import SETTINGS
from gradconv.restriction import RESTRICTIONS
from gradconv.sampling import plan_sampling, sample_gradients
from gradconv.studies import read_results

LEVELS = {1: (3, 7), 2: (3, 5), 3: (2, 4)}


# ---- cells ----


def test_the_product_of_the_registries_is_complete() -> None:
    cells = enumerate_cells()
    assert len(set(cells)) == len(cells)
    plain = {
        (
            c.kernel.partition(":")[0],
            c.noise.partition(":")[0],
            c.setting,
            c.restriction,
            c.target,
            c.dim,
        )
        for c in cells
    }
    registries = (KERNELS.names, NOISES.names, SETTINGS, RESTRICTIONS.names, TARGETS.names)
    assert plain == set(product(*registries, (1, 2, 3)))
    powers = len(SPECS["power"](1)) - 1
    others = len(KERNELS.names) * len(SETTINGS) * len(RESTRICTIONS.names) * len(TARGETS.names) * 3
    assert len(cells) == len(plain) + powers * others


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_power_laws_lie_below_at_and_above_both_critical_exponents(dim: int) -> None:
    alphas = [float(s.partition(":")[2]) for s in SPECS["power"](dim)]
    for value in (dim / 2, dim):
        assert value in alphas
        assert min(alphas) < value < max(alphas)


def test_a_new_name_enters_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESTRICTIONS._classes, "another", RESTRICTIONS["average"])
    assert "another" in names()["restriction"]
    assert any(c.restriction == "another" for c in enumerate_cells({"dim": ["1"]}))


def test_a_noise_whose_arguments_nobody_chose_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NOISES._classes, "other", NOISES["matern"])
    with pytest.raises(InputError, match="`noise` other needs nu, length"):
        enumerate_cells()


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="stencil"):
        enumerate_cells({"kernel": ["stencl"]})


def test_every_cell_is_a_problem_with_meshes_or_a_reason() -> None:
    cells = [c for c in enumerate_cells({"dim": ["1"]}) if c.kernel in ("stencil", "spectral")]
    without = {c: m for c in cells if isinstance(m := unit.Meshes.of(c).means, str)}
    assert not without  # in 1-D every cell has meshes; a cell without shows its reason
    assert isinstance(hierarchy_for(Problem("stencil", target="unblur:0.5", dim=1), 3, 5), str)


# ---- cells that are one problem ----


def test_one_restriction_only_where_every_level_is_the_same() -> None:
    assert one_restriction("bilinear") == "average"
    kept = [r for r in RESTRICTIONS.names if one_restriction(r) == r]
    assert sorted(kept) == sorted(set(RESTRICTIONS.names) - {"bilinear"})


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("dim", [1, 2])
def test_merged_cells_have_the_same_sample_paths_means_and_laws(setting: str, dim: int) -> None:
    def made(restriction: str) -> tuple[np.ndarray, np.ndarray, list]:
        cell = Cell("stencil", "power:0.7", setting, restriction, "shift", dim)
        levels = MeshHierarchy.powers_of_two(dim, *LEVELS[dim])
        expected = expected_gradients(cell.problem, levels)[0]
        law = derive(cell.problem).quantity("mean_gap")
        terms = [(t.exponent, t.fine_exponent, t.logs, t.coefficient) for t in law.terms]
        return _paths(cell, levels), expected, terms

    merged, other, control = (made(r) for r in ("average", "bilinear", "injection"))
    for a, b in zip(merged[:2], other[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert merged[2] == other[2]
    assert np.abs(merged[0] - control[0]).max() > 1e-3 * np.abs(merged[0]).max()
    assert representative(Cell("mfc", "none", setting, "bilinear", "blur", dim)) == Cell(
        "mfc", "none", setting, "average", "blur", dim
    )


def _paths(cell: Cell, levels: MeshHierarchy, replicates: int = 4) -> np.ndarray:
    plan = plan_sampling(
        cell.problem,
        levels,
        replicates=replicates,
        seed=3,
        dtype="float64",
        device="cpu",
        memory=1.0,
        threads=1,
    )
    return sample_gradients(cell.problem, levels, plan)


def test_pixel_and_white_noise_are_one_problem_up_to_a_factor_in_coarsening() -> None:
    shared = {"signal": "band-limited:2", "setting": "coarsening", "dim": 2}
    pixel = mean_terms(Problem("stencil", noise="pixel:0.5", **shared))
    white = mean_terms(Problem("stencil", noise="white:0.5", **shared))
    fine = 2.0**-7  # σ_w² = σ² h_L^d: then both make the same vectors
    for one in pixel:
        match = [
            t
            for t in white
            if t.origin == one.origin
            and t.exponent == one.exponent
            and t.fine_exponent == one.fine_exponent - (2 if one.origin == "noise" else 0)
            and t.region == one.region
        ]
        assert len(match) == 1
        scale = fine**-2 if one.origin == "noise" else 1.0
        np.testing.assert_allclose(
            match[0].vector * fine ** match[0].fine_exponent,
            one.vector * fine**one.fine_exponent * scale,
            rtol=1e-12,
        )


# ---- parts that add ----


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("setting", SETTINGS)
def test_parts_add_up_to_the_mean_of_every_cell(setting: str, dim: int) -> None:
    noises, targets = ("none", "pixel", "salt-and-pepper", "matern:1.5:0.1"), ("identity", "shift")
    levels = MeshHierarchy.powers_of_two(dim, 3, LEVELS[dim][1])
    group = Group("sobolev:3", setting, "full_weighting", dim, noises, targets)
    measured, derived = measured_spectra(group, levels), derived_spectra(group, levels)
    for kernel in ("stencil", "mfc"):
        parts = measured_parts(kernel, levels, *measured)
        sums = derived_parts(kernel, levels, *derived)
        for noise, target in product(noises, targets):
            problem = Problem(kernel, "sobolev:3", target, noise, "full_weighting", setting, dim)
            expected, sizes = expected_gradients(problem, levels)
            scaled = (expected * problem.convolution.scale).reshape(len(levels), -1)
            law = mean_gradients(problem, levels).reshape(len(levels), -1)
            size = np.abs(scaled).max()
            np.testing.assert_allclose(parts.mean(noise, target)[0], scaled, atol=1e-13 * size)
            np.testing.assert_allclose(parts.mean(noise, target)[1], sizes, rtol=1e-10)
            np.testing.assert_allclose(sums.mean(noise, target)[0], law, atol=1e-13 * size)
        wrong = parts.mean("pixel", "identity")[0] - parts.mean("none", "identity")[0]
        assert np.abs(wrong).max() > 1e-6  # the noise is seen


def test_laws_of_parts_do_not_depend_on_what_was_derived_before() -> None:
    cases = [
        Problem("stencil", "sobolev:3", target, noise, "average", setting, 1)
        for target in ("identity", "shift")
        for noise in ("none", "pixel", "uniform:0.5", "white:0.1", "salt-and-pepper")
        for setting in SETTINGS
        if not (noise == "salt-and-pepper" and setting == "refinement")
    ]
    from gradconv.laws import mean

    kept = [mean_terms(p) for p in cases]
    for problem, terms in zip(cases, kept, strict=True):
        mean._part.cache_clear()
        for one, two in zip(terms, mean_terms(problem), strict=True):
            assert (one.exponent, one.fine_exponent, one.logs, one.origin) == (
                two.exponent,
                two.fine_exponent,
                two.logs,
                two.origin,
            )
            np.testing.assert_array_equal(one.vector, two.vector)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("noise", ["pixel", "power:0.7", "poisson"])
def test_shared_paths_are_those_of_a_sweep(setting: str, noise: str) -> None:
    cell = Cell("mfc", noise, setting, "injection", "blur", 2)
    levels = MeshHierarchy.powers_of_two(2, 3, 5)
    group = Group(cell.signal, setting, "injection", 2, (noise,), ("blur", "shift"))
    inputs = draw_inputs(group, noise, levels, 4, 3)
    targets = {t: draw_targets(group, t, levels, 4, 3) for t in group.targets}
    found = gradients("mfc", levels, inputs, targets)
    own = _paths(cell, levels)
    np.testing.assert_allclose(found["blur"], own, atol=1e-13 * np.abs(own).max())
    assert np.abs(found["shift"] - own).max() > 1e-6


# ---- whole atlases ----

SMALL = {
    "kernel": ["stencil"],
    "noise": ["pixel", "none"],
    "setting": ["coarsening"],
    "restriction": ["average", "bilinear", "injection"],
    "target": ["identity"],
    "dim": ["1"],
}


def test_an_interrupted_run_goes_on_and_ends_alike(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cells = enumerate_cells(SMALL)
    whole = build.atlas(cells, replicates=8)
    measured: list[str] = []
    honest = build.measure_unit

    def counted(work: unit.Unit, laws: dict) -> list:
        measured.append(work.cells[0].restriction)
        return honest(work, laws)

    monkeypatch.setattr(build, "measure_unit", counted)

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build.atlas(cells, cache=tmp_path, replicates=8, progress=stop)
    assert len(measured) == 1
    resumed = build.atlas(cells, cache=tmp_path, replicates=8)
    assert len(measured) == 2  # the first unit came from disk
    assert json.dumps(resumed) == json.dumps(whole)
    again = build.atlas(cells, cache=tmp_path, replicates=8)
    assert len(measured) == 2
    assert json.dumps(again) == json.dumps(whole)
    for file in tmp_path.rglob("*.json"):
        file.write_text(file.read_text()[:-9])
    assert json.dumps(build.atlas(cells, cache=tmp_path, replicates=8)) == json.dumps(whole)
    assert len(measured) == 4


def test_a_restriction_without_a_law_is_measured_and_explained() -> None:
    chosen = {**SMALL, "restriction": ["bilinear_corners"]}
    document = build.atlas(enumerate_cells(chosen), replicates=8)
    assert not evaluable("bilinear_corners")
    for cell in document["cells"]:
        assert cell["status"] == "explained"
        gap = cell["quantities"]["mean_gap"]
        assert "position" in gap["reason"]
        assert "values" not in gap
        assert gap["measured"]["verdict"]


# ---- the critical exponents ----

SERIES = {
    "kernel": "stencil",
    "setting": "refinement",
    "dim": 1,
    "quantity": "mean_gap",
    "alpha": [0.5, 1.5],
    "order": [-0.5, 0.5],
    "zeros": [1.0],
    "points": [{"alpha": 0.5, "order": -0.49, "interval": [-0.52, -0.46]}],
}


@pytest.mark.parametrize("dim", [1, 2])
def test_the_mean_gap_changes_sign_where_alpha_is_d(dim: int) -> None:
    alphas, orders = critical._derived("stencil", "refinement", dim, "mean_gap")
    assert len(alphas) > 20
    assert critical.zeros(alphas, orders) == [pytest.approx(dim, abs=1e-6)]
    np.testing.assert_allclose(critical.zeros(alphas, [o - 0.25 for o in orders]), [dim + 0.25])


def test_mesh_free_kernels_have_no_transition() -> None:
    alphas, orders = critical._derived("mfc", "refinement", 1, "mean_gap")
    assert len(alphas) > 20
    assert critical.zeros(alphas, orders) == []
    assert min(orders) > 0


def test_an_order_that_only_touches_zero_is_no_transition() -> None:
    assert critical.zeros([1.0, 2.0, 3.0], [1.0, 0.0, 1.0]) == []
    assert critical.zeros([1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]) == [2.0]


# ---- the stored study ----


@pytest.fixture(scope="module")
def stored() -> dict:
    path = Path(__file__).resolve().parent.parent / "studies" / "atlas"
    results = read_results(path)
    return {**results["atlas"], "critical": results["critical"]["series"]}


def test_the_stored_atlas_is_whole_and_says_why(stored: dict) -> None:
    assert [{c: cell[c] for c in CHOICES} for cell in stored["cells"]] == [
        {c: getattr(cell, c) for c in CHOICES} for cell in enumerate_cells()
    ]
    for cell in stored["cells"]:
        for own in cell["quantities"].values():
            assert own["status"] in ("agrees", "explained", "disagrees")
            assert own["status"] == "agrees" or own["reason"]
    assert int(present.rows(stored)[-1][1]) == len(stored["cells"])
    said = list(present.disagreements(stored))
    wrong = [c for c in stored["cells"] if c["status"] == "disagrees"]
    assert bool(said) == bool(wrong)


def test_figures_are_drawn_from_the_stored_data_alone(stored: dict) -> None:
    figure = figures.phase_figure(stored)
    panels = [a for a in figure.axes if a.get_title(loc="left")]
    names = {"mfc": "mesh-free", "stencil": "standard"}
    assert [a.get_title(loc="left") for a in panels] == [
        names.get(k, k) for k in sorted(KERNELS.names)
    ]
    colours = {
        tuple(round(v, 3) for v in colour[:3])
        for panel in panels
        for colour in panel.collections[0].get_facecolor()
    }
    assert len(colours) > 5
    black = [dict(c, quantities=_reversed(c["quantities"])) for c in stored["cells"][:5]]
    assert figures._colour(black[0]) != figures._colour(stored["cells"][0])
    drawn = figures.critical_figure(stored["critical"])
    assert len(drawn.axes) == len(
        {(s["kernel"], s["setting"], s["dim"]) for s in stored["critical"]}
    )
    found = {s["quantity"]: s["zeros"] for s in stored["critical"] if s["kernel"] == "stencil"}
    assert found["mean_gap"] == [3.0]  # the last dimension
    assert found["variance"] == [1.5]


def _reversed(quantities: dict) -> dict:
    gap = {"derived": {"order": -1.0, "verdict": "diverges"}, "status": "agrees"}
    return {**quantities, "mean_gap": gap}


# ---- the command ----


def test_the_command_prints_one_document_and_leaves_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gradconv.atlas.critical.critical_series", lambda *a: [SERIES])
    text = "atlas --kernel stencil --dim 1 --noise pixel,none --target identity --workers 1"
    text += " --restriction average,injection --setting refinement --replicates 8"
    words = text.split()
    output = tmp_path / "out"
    run = CliRunner().invoke(app, [*words, "--json", "-o", str(output)])
    assert run.exit_code == 0, run.output
    document = json.loads(run.stdout)
    assert document["schema"] == "gradconv.atlas/1"
    assert len(document["cells"]) == 4
    assert {"commit", "versions", "seed", "source"} <= set(document["provenance"])
    for cell in document["cells"]:
        assert set(CHOICES) <= set(cell)
        assert set(cell["quantities"]) == {"level_norm", "mean_gap", "variance", "rms_gap"}
    assert json.loads(gzip.decompress((output / "atlas.json.gz").read_bytes())) == document
    for name in ("phase", "critical"):
        for kind in ("png", "pdf", "svg"):
            assert (output / f"{name}.{kind}").stat().st_size > 1000
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0
    assert "full law agrees" in shown.stdout
    assert (tmp_path / "cache" / "gradconv").is_dir()


def test_no_cache_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = "atlas --kernel stencil --dim 1 --noise none --target identity --workers 1 --no-cache"
    words += " --restriction average --setting refinement --replicates 8"
    assert CliRunner().invoke(app, words.split()).exit_code == 0
    assert not (tmp_path / "cache").exists()


def test_unknown_values_are_one_line_and_code_2() -> None:
    run = CliRunner().invoke(app, ["atlas", "--kernel", "stencl"])
    assert isinstance(run.exception, InputError)
    assert "stencil" in str(run.exception)
