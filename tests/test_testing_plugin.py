"""The pytest plugin in a user's project: one test file, run as the user would run it."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

PROJECT = """
import pytest

from gradconv.testing import assert_order


def heat(n):
    return [1.0 / m**2 for m in n]


@pytest.mark.mesh_convergence(order=2)
def test_values(mesh_convergence):
    values = heat(mesh_convergence.sizes)
    assert mesh_convergence(mesh_convergence.h, values).verdict == "converges"


@pytest.mark.mesh_convergence(order=2, levels="5:9", quantity="mean_gap")
def test_module(mesh_convergence):
    import torch

    torch.manual_seed(0)
    conv = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    mesh_convergence(conv, signal="band-limited:2", noise="none")


@pytest.mark.mesh_convergence
def test_assertion_in_a_marked_test():
    assert_order([1 / 8, 1 / 16, 1 / 32, 1 / 64], [8, 16, 32, 64], -1, label="level norm")


@pytest.mark.mesh_convergence(order=2)
def test_wrong_order(mesh_convergence):
    mesh_convergence(mesh_convergence.h, mesh_convergence.h)


def test_unmarked():
    assert_order([1 / 8, 1 / 16, 1 / 32, 1 / 64], [8, 4, 2, 1], 1)
"""

HEADLINE = "orders under mesh refinement"


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load all that the projects need: a run inside this process forgets what it loads itself.

    Compiled modules (numpy, torch, matplotlib) do not survive being loaded twice.
    """
    import torch

    from gradconv.testing import CheckFailed, assert_gradient_converges
    from gradconv.testing.session import Session, running

    conv = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    folder = tmp_path_factory.mktemp("loaded")
    with running(Session("loaded", lambda: folder)), pytest.raises(CheckFailed):
        assert_gradient_converges(conv, 9, noise="none", hierarchy=(16, 32, 64, 128))


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_project=PROJECT)
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_inprocess(
        "--strict-markers", "--strict-config", "-p", "no:benchmark", "-W", "error", *arguments
    )


def summary(result: pytest.RunResult) -> dict[str, str]:
    """Lines of the summary by name of the test."""
    lines = result.outlines
    start = next((i for i, line in enumerate(lines) if HEADLINE in line), len(lines))
    found = {}
    for line in lines[start + 2 :]:
        name = re.match(r"test_project\.py::(\w+)", line)
        if not name:
            break
        found[name[1]] = line
    return found


def test_project_runs(project: pytest.Pytester) -> None:
    result = run(project)
    result.assert_outcomes(passed=4, failed=1)
    lines = summary(result)
    assert set(lines) == {
        "test_values",
        "test_module",
        "test_assertion_in_a_marked_test",
        "test_wrong_order",
    }
    for name, order, verdict, expected in (
        ("test_values", "+2", "converges", "+2"),
        ("test_assertion_in_a_marked_test", "-1", "diverges", "-1"),
        ("test_wrong_order", "+1", "converges", "+2"),
    ):
        words = lines[name].split()
        assert order in words
        assert f"[{order}, {order}]" in lines[name]
        assert verdict in words
        assert expected in words
        assert ("not met" in lines[name]) == (name == "test_wrong_order")
    order = re.search(r"mean gap of the gradient +(\S+)", lines["test_module"])
    assert order is not None
    assert float(order[1]) == pytest.approx(2.0, abs=0.1)
    assert "level norm" in lines["test_assertion_in_a_marked_test"]


def test_failure_shows_the_table_and_keeps_the_figure(project: pytest.Pytester) -> None:
    result = run(project, "-k", "wrong_order")
    text = result.stdout.str()
    assert "does not contain 2" in text
    assert "0.00195312" in text  # 1/512, the last level
    assert "from gradconv.testing import assert_order" in text
    assert "gradconv/testing/orders.py" not in text  # the traceback ends in the user's file
    path = re.search(r"figure +(\S+\.png)", text)
    assert path is not None
    figure = Path(path[1])
    assert figure.parent.name == "mesh-figures"
    assert "test_wrong_order" in figure.name
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_figures_go_where_they_are_sent(project: pytest.Pytester) -> None:
    run(project, "--mesh-figures", "kept")
    (figure,) = (project.path / "kept").glob("*.png")
    assert figure.name == "test_project.py-test_wrong_order-assert_order.png"


def test_only_failures_of_the_test_are_drawn(pytester: pytest.Pytester) -> None:
    """An expected failure is not; one inside a group or behind another exception is."""
    pytester.makepyfile("""
        import pytest

        from gradconv.testing import CheckFailed, assert_order

        H = [1 / 8, 1 / 16, 1 / 32]

        def test_expected():
            with pytest.raises(CheckFailed):
                assert_order(H, H, 2)

        def test_behind():
            try:
                assert_order(H, H, 2)
            except CheckFailed as error:
                raise RuntimeError from error

        def test_group():
            with pytest.raises(CheckFailed) as failed:
                assert_order(H, H, 2)
            raise ExceptionGroup("several", [failed.value])

        @pytest.fixture
        def measured():
            assert_order(H, H, 2)

        def test_in_set_up(measured):
            pass
    """)
    result = run(pytester, "--mesh-figures", "kept")
    result.assert_outcomes(passed=1, failed=2, errors=1)
    drawn = sorted(path.name.split("-")[1] for path in (pytester.path / "kept").glob("*.png"))
    assert drawn == ["test_behind", "test_group", "test_in_set_up"]


def test_a_figure_that_cannot_be_drawn_is_reported(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("gradconv.figures.figure_bytes", broken)
    result = run(project, "-k", "wrong_order")
    result.assert_outcomes(failed=1, deselected=4)
    result.stdout.fnmatch_lines(["*does not contain 2*", "*figure could not be drawn*no fonts*"])


def test_no_folder_without_failure(project: pytest.Pytester) -> None:
    run(project, "--mesh-figures", "kept", "-k", "test_values").assert_outcomes(
        passed=1, deselected=4
    )
    assert not (project.path / "kept").exists()


def test_mesh_levels_override_marker_and_default(project: pytest.Pytester) -> None:
    result = run(project, "--mesh-levels", "6:9", "-k", "wrong_order or module", "-vv")
    result.assert_outcomes(passed=1, failed=1, deselected=3)
    rows = re.findall(r"^E +(0\.\d+) +\S+e-", result.stdout.str(), re.M)
    assert [float(h) for h in rows] == pytest.approx([1 / 64, 1 / 128, 1 / 256, 1 / 512], rel=1e-5)
    # the module's order on other meshes is another number
    fewer = summary(result)["test_module"]
    marked = summary(run(project, "-k", "module"))["test_module"]
    assert fewer != marked


def test_mesh_levels_override_a_hierarchy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import torch

        def test_it(mesh_convergence, request):
            conv = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular")
            sizes = (32, 64, 128, 256)
            found = mesh_convergence(conv, hierarchy=sizes, signal="band-limited:2", noise="none")
            forced = request.config.getoption("--mesh-levels") is not None
            assert found.hierarchy.sizes == ((64, 128, 256, 512) if forced else sizes)
    """)
    run(pytester).assert_outcomes(passed=1)
    run(pytester, "--mesh-levels", "6:9").assert_outcomes(passed=1)


def test_a_folder_that_cannot_be_made_does_not_hide_the_failure(project: pytest.Pytester) -> None:
    (project.path / "taken").write_text("a file")
    result = run(project, "--mesh-figures", "taken", "-k", "wrong_order")
    result.assert_outcomes(failed=1, deselected=4)
    assert "does not contain 2" in result.stdout.str()


@pytest.mark.parametrize("levels", ["5", "6:3", "a:b", "5:7", "0:5", "5:40", "5:9:2"])
def test_bad_levels_stop_the_run(project: pytest.Pytester, levels: str) -> None:
    result = run(project, "--mesh-levels", levels)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--mesh-levels: `levels` *"])


def test_summary_under_xdist(project: pytest.Pytester) -> None:
    """The orders travel from the workers; the figures lie in the folder given."""
    options = ("-n", "2", "--mesh-levels", "3:7", "--mesh-figures", "kept")
    result = run(project, *options, "-k", "not module")  # the workers need not load torch
    result.assert_outcomes(passed=3, failed=1)
    assert set(summary(result)) == {
        "test_values",
        "test_assertion_in_a_marked_test",
        "test_wrong_order",
    }
    assert len(list((project.path / "kept").glob("*wrong_order*.png"))) == 1


def test_orders_are_in_the_xml_report(project: pytest.Pytester) -> None:
    run(project, "-k", "values", "--junitxml", "report.xml")
    properties = ET.parse(project.path / "report.xml").iter("property")
    values = [p.get("value") for p in properties if p.get("name") == "mesh_convergence"]
    assert len(values) == 1
    assert '"verdict": "converges"' in str(values[0])


def test_nothing_is_shown_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain():\n    assert True\n")
    result = run(pytester)
    result.assert_outcomes(passed=1)
    assert HEADLINE not in result.stdout.str()


def test_plugin_can_be_switched_off(project: pytest.Pytester) -> None:
    off = ("-p", "no:gradconv", "-p", "no:benchmark")
    result = project.runpytest_inprocess(*off, "-k", "unmarked")
    result.assert_outcomes(passed=1, deselected=4)
    result = project.runpytest_inprocess(*off, "-k", "values")
    result.assert_outcomes(errors=1, deselected=4)
    result.stdout.fnmatch_lines(["*fixture 'mesh_convergence' not found*"])
    assert HEADLINE not in result.stdout.str()
    result = project.runpytest_inprocess(*off, "--mesh-levels", "3:6")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_options_and_marker_are_documented(pytester: pytest.Pytester) -> None:
    text = run(pytester, "--help").stdout.str()
    assert "--mesh-levels" in text
    assert "--mesh-figures" in text
    run(pytester, "--markers").stdout.fnmatch_lines(["@pytest.mark.mesh_convergence(*"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("(odrer=2)", "`mesh_convergence` must be one of"),
        ("(2)", "takes arguments by name only"),
        ("(levels='5:6', order=2)", "`levels` must increase by at least 3"),
        ("(order='two')", "`order` must be a number"),
        ("", "`order` must be a number"),
        ("(order=2, dim=4)", "`dim` must be 1, 2 or 3"),
    ],
)
def test_bad_markers(pytester: pytest.Pytester, marker: str, message: str) -> None:
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.mesh_convergence{marker}
        def test_it(mesh_convergence):
            mesh_convergence(mesh_convergence.h, [h**2 for h in mesh_convergence.h])
    """)
    result = run(pytester)
    assert not result.parseoutcomes().get("passed")
    result.stdout.fnmatch_lines([f"*{message.replace('[', '[[]')}*"])


def test_markers_of_class_and_function_are_joined(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.mesh_convergence(levels="3:8", order=1)
        class TestBoth:
            @pytest.mark.mesh_convergence(order=2, dim=2)
            def test_it(self, mesh_convergence):
                assert mesh_convergence.order == 2
                assert mesh_convergence.hierarchy.dim == 2
                assert mesh_convergence.sizes == (8, 16, 32, 64, 128, 256)
                assert mesh_convergence.h[0] == 1 / 8
    """)
    run(pytester).assert_outcomes(passed=1)


def test_plugin_loads_nothing_heavy() -> None:
    """What a run of pytest imports for the plugin: the standard library and pytest only."""
    code = (
        "import sys, pytest; before = set(sys.modules); import gradconv.testing.plugin; "
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "gradconv" in loaded
    assert loaded <= {"gradconv", *sys.stdlib_module_names}
