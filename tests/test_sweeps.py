"""The sweep as Python users meet it: labelled results, errors, progress, statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from gradconv import KernelOptions, MeshHierarchy, Multiplier, Problem, Sweep, sweep
from gradconv.errors import InputError
from gradconv.kernels.stencil import Stencil
from gradconv.problem import QUANTITIES
from gradconv.statistics import ROUNDING, GradientSample, rounding_floor

HIERARCHY = MeshHierarchy.powers_of_two(1, 3, 7)


@pytest.fixture(scope="module")
def result() -> Sweep:
    problem = Problem("stencil", "sobolev:2", noise="pixel:0.5", dim=1, channels=2)
    return sweep(problem, HIERARCHY, replicates=32, seed=1)


def test_dataset_is_labelled(result: Sweep) -> None:
    data = result.data
    assert isinstance(data, xr.Dataset)
    assert dict(data.sizes) == {"replicate": 32, "level": 5, "parameter": 12}
    for name in (*QUANTITIES, "cosine"):
        assert data[name].dims == ("level",)
        assert data[name].attrs["units"]
        assert data[name].attrs["long_name"]
        assert f"{name}_stderr" in data
    assert data["h"].attrs["units"] == "box"
    assert data["h"].values == pytest.approx(HIERARCHY.h)
    assert str(data["parameter"].values[0]) == "0,0:w[-1]"
    assert data.attrs["noise"] == "pixel:0.5"
    assert np.isnan(data["mean_gap"].values[0])
    assert np.isfinite(data["mean_gap"].values[1:]).all()


def test_dataset_survives_netcdf(result: Sweep, tmp_path: Path) -> None:
    result.data.to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "sweep.nc", engine="h5netcdf") as stored:
        xr.testing.assert_identical(stored.load(), result.data)


def test_quantities_follow_from_the_gradients(result: Sweep) -> None:
    """Each quantity from its definition, with the exact mean."""
    data = result.data
    expected = data["expected_gradient"].values
    gaps = np.diff(data["gradient"].values, axis=1)
    mean = np.diff(expected, axis=0)
    variance = np.mean(np.sum((gaps - mean) ** 2, -1), 0)
    assert data["level_norm"].values == pytest.approx(np.linalg.norm(expected, axis=-1))
    assert data["mean_gap"].values[1:] == pytest.approx(np.linalg.norm(mean, axis=-1))
    assert data["variance"].values[1:] == pytest.approx(variance)
    rms = np.sqrt(np.sum(mean**2, -1) + variance)
    assert data["rms_gap"].values[1:] == pytest.approx(rms)
    finest = expected[-1] / np.linalg.norm(expected[-1])
    cosine = expected @ finest / np.linalg.norm(expected, axis=-1)
    assert data["cosine"].values == pytest.approx(cosine)
    assert data["cosine"].values[-1] == pytest.approx(1.0)
    assert np.all(data["mean_gap_stderr"].values[1:] == 0.0)
    assert np.all(data["variance_stderr"].values[1:] > 0.0)


def test_sampled_quantities_agree_with_exact_ones() -> None:
    """The same problem with its expectation hidden: within 4 standard errors at every level."""
    problem = Problem("mfc", "plane-wave:3", noise="pixel:1", restriction="injection", dim=1)
    exact = sweep(problem, HIERARCHY, replicates=2000).sample
    hidden = GradientSample(exact.gradients, None, exact.magnitude, exact.epsilon)
    for quantity in (*QUANTITIES,):
        truth, _ = exact.series(quantity)
        values, errors = hidden.series(quantity)
        finite = np.isfinite(errors)
        assert np.all(np.abs(values - truth)[finite] < 4 * errors[finite] + 1e-12)
    values, errors = hidden.cosine()
    assert np.all(np.abs(values - exact.cosine()[0]) <= 4 * errors + 1e-9)


def test_a_wrong_expectation_is_noticed() -> None:
    """The paths check the exact mean: a mean off by one per cent of a component is seen."""
    problem = Problem("stencil", "plane-wave:3", noise="pixel:0.5", restriction="injection", dim=1)
    good = sweep(problem, HIERARCHY, replicates=400).sample
    assert good.expected is not None
    assert good.disagreement() > 1e-3
    wrong = GradientSample(good.gradients, 1.3 * good.expected, good.magnitude, good.epsilon)
    assert wrong.disagreement() < 1e-6


def test_deterministic_problems_need_one_path() -> None:
    result = sweep(Problem("stencil", "plane-wave:3", dim=1), HIERARCHY, replicates=50)
    assert result.sample.replicates == 1
    assert result.rate("variance").verdict == "exact"
    assert result.rate("rms_gap").order == result.rate("mean_gap").order


def test_progress_and_checkpoint_are_told() -> None:
    told: list[tuple[int, int]] = []
    parts: list[int] = []
    problem = Problem("stencil", "plane-wave:3", noise="pixel:0.5", dim=2)
    hierarchy = MeshHierarchy.powers_of_two(2, 4, 8)
    whole = sweep(
        problem,
        hierarchy,
        replicates=7,
        progress=lambda done, total: told.append((done, total)),
        checkpoint=lambda part: parts.append(len(part)),
    )
    assert told[0] == (0, 7)
    assert told[-1] == (7, 7)
    assert parts == sorted(parts)
    assert parts[-1] == 7
    resumed = sweep(problem, hierarchy, replicates=7, done=whole.sample.gradients[:3])
    assert np.array_equal(resumed.sample.gradients, whole.sample.gradients)


def test_own_kernel_and_own_target() -> None:
    """A kernel and a multiplier made in Python, without a name."""
    weights = np.array([0.25, 0.5, 0.25])[None, None]
    own = Problem(
        Stencil.from_weights(weights, 1),
        "plane-wave:3",
        Multiplier(lambda k: np.exp(-0.5 * 0.02**2 * k * k), "own"),
        dim=1,
    )
    named = Problem(
        "stencil", "plane-wave:3", "blur:0.02", dim=1, options=KernelOptions([0.25, 0.5, 0.25])
    )
    rates = [sweep(p, HIERARCHY).rate("mean_gap").order for p in (own, named)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)
    assert own.describe()["target"] == "multiplier:own"


def test_float32_floor_is_known() -> None:
    """In single precision the exact zero gaps of a resolved kernel are still exact."""
    problem = Problem("mfc", "band-limited:3", restriction="injection", dim=1)
    hierarchy = MeshHierarchy.powers_of_two(1, 5, 9)
    result = sweep(problem, hierarchy, replicates=8, dtype="float32")
    assert result.rate("variance").verdict == "exact"
    assert np.abs(np.diff(result.sample.gradients, axis=1)).max() > 1e-10  # the floor is real


def test_notes_name_what_matters() -> None:
    narrow = Problem("mfc", "plane-wave:3", dim=1, options=KernelOptions(diffusivity=1e-4))
    assert any("not resolved up to n=64" in note for note in sweep(narrow, HIERARCHY).notes)
    corners = Problem("stencil", "plane-wave:3", restriction="bilinear_corners", dim=1)
    assert any("no power law" in note for note in sweep(corners, HIERARCHY).notes)
    plain = Problem("stencil", "plane-wave:3", dim=1)
    assert sweep(plain, HIERARCHY).notes == (
        "nothing is random: one path serves, and the variance is zero",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"replicates": 1}, "`replicates` must be a whole number from 2 to"),
        ({"replicates": 2.5}, "`replicates` must be a whole number"),
        ({"seed": -1}, "`seed` must be a whole number from 0 to"),
        ({"threads": 0}, "`threads` must be"),
        ({"memory": 0}, "`memory` must be positive"),
        ({"memory": 1e-6}, "`memory` must hold one replicate a thread"),
        ({"confidence": 1.0}, "`confidence` must be a number between 0 and 1"),
        ({"dtype": "float16"}, "`dtype` must be float64 or float32; got 'float16'"),
        ({"device": "warp"}, "`device` must be cpu or a device"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        sweep(Problem("stencil", dim=1), HIERARCHY, **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"setting": "refinment"}, "did you mean 'refinement'"),
        ({"boundary": "open"}, "`boundary` must be one of"),
        ({"dim": 4}, "`dim` must be 1, 2 or 3; got 4"),
        ({"channels": 0}, "`channels` must be a whole number from 1 to 64; got 0"),
        ({"signal": "photograph:camera", "setting": "refinement"}, "`setting` refinement needs"),
        ({"setting": "refinement", "route": "direct"}, "`route` direct belongs to the coarsening"),
        ({"restriction": "spectral", "boundary": "zero"}, "`restriction` spectral needs boundary"),
        ({"options": KernelOptions(drift=1.0)}, "`drift` is not a parameter of kernel stencil"),
        ({"noise": 3}, "`noise` must be text"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Problem(**{"dim": 2, **arguments})  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_levels_that_cannot_work_are_refused() -> None:
    with pytest.raises(InputError, match="at least 4 meshes for a fit; got 3"):
        sweep(Problem("stencil", dim=1), MeshHierarchy.powers_of_two(1, 4, 6))
    with pytest.raises(InputError, match="not be finer than the image"):
        sweep(Problem("stencil", "photograph"), MeshHierarchy.powers_of_two(2, 6, 10))
    with pytest.raises(InputError, match=r"2\*modes < n on the coarsest mesh"):
        sweep(Problem("spectral:4", dim=1), MeshHierarchy.powers_of_two(1, 3, 7))
    corners = Problem("stencil", restriction="bilinear_corners", dim=1)
    with pytest.raises(InputError, match="`levels` must end at 8192 cells an axis"):
        sweep(corners, MeshHierarchy.powers_of_two(1, 10, 14))
    with pytest.raises(InputError, match="problem and hierarchy must agree"):
        sweep(Problem("stencil", dim=2), HIERARCHY)


def test_stored_gradients_of_another_shape_are_refused() -> None:
    hierarchy = MeshHierarchy.powers_of_two(1, 3, 6)
    problem = Problem("stencil", noise="pixel:0.5", dim=1)
    with pytest.raises(InputError, match=r"`done` must have shape \(replicates, 4, 3\)"):
        sweep(problem, hierarchy, replicates=8, done=np.zeros((8, 1, 1)))


def test_choices_are_whole_and_registered_once() -> None:
    from gradconv.fields import NOISES
    from gradconv.fields.noise import Noise
    from gradconv.registry import Registry

    with pytest.raises(TypeError, match="abstract"):
        Noise()  # type: ignore[abstract]
    with pytest.raises(InputError, match="`noise` pixel must be registered once"):
        NOISES.register("pixel")(NOISES["pixel"])
    other: Registry[Noise] = Registry("noise")
    assert other.names == []


def test_rounding_floors_have_the_units_of_their_quantities() -> None:
    """Sizes of terms that cancel add up over a gap; a variance has the square of a gap's."""
    magnitude, epsilon = np.array([1.0, 3.0, 10.0]), 2.0**-20
    unit = ROUNDING * epsilon
    assert rounding_floor("level_norm", magnitude, epsilon) == pytest.approx(unit * magnitude)
    gap = unit * np.array([4.0, 13.0])
    for quantity in ("mean_gap", "rms_gap"):
        assert rounding_floor(quantity, magnitude, epsilon) == pytest.approx(gap)
    assert rounding_floor("variance", magnitude, epsilon) == pytest.approx(gap**2)
