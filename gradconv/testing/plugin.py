"""The pytest plugin: a marker and a fixture for orders of convergence, and their summary.

It is installed with the package and costs a run nothing until it is used: pytest imports this
file alone, and neither numpy nor torch with it.

- ``@pytest.mark.mesh_convergence(order=…, quantity=…, levels=…)`` lists every order that
  assertions of `gradconv.testing` measure in a test, and sets what the fixture expects.
- The fixture ``mesh_convergence`` is called with a module, or with mesh sizes and values.
- ``--mesh-levels A:B`` replaces the levels n = 2**A … 2**B of all of these tests.
- ``--mesh-figures DIR`` says where figures of failures go; default: a folder of pytest's own
  temporary directory.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradconv.testing.session import Measurement, Session, running

if TYPE_CHECKING:
    from gradconv.audit import Audit
    from gradconv.mesh import MeshHierarchy
    from gradconv.rates import Rate

MARK = "mesh_convergence"
DEFAULT_LEVELS = {1: (4, 9), 2: (3, 6), 3: (2, 5)}
"""Levels by dimension: 16 to 512 cells an axis, 8 to 64, 4 to 32."""

_CHOICES = ("order", "quantity", "levels", "dim", "tolerance")
_sessions = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--mesh-levels`` and ``--mesh-figures``."""
    group = parser.getgroup("gradconv", "convergence under mesh refinement (gradconv)")
    group.addoption(
        "--mesh-levels",
        metavar="A:B",
        help="levels n = 2**A to 2**B of all tests that use mesh_convergence",
    )
    group.addoption(
        "--mesh-figures",
        metavar="DIR",
        help="folder for the figures of failed gradconv assertions "
        "(default: mesh-figures in pytest's temporary directory)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and check the options."""
    config.addinivalue_line(
        "markers",
        "mesh_convergence(order=None, quantity='rms_gap', levels='A:B', dim=None, tolerance=None): "
        "list the orders that the test measures; what the fixture mesh_convergence expects",
    )
    given = config.getoption("--mesh-levels")
    if given is not None:
        try:
            _levels(given)
        except ValueError as error:
            raise pytest.UsageError(f"--mesh-levels: {error}") from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tell the assertions which test runs and where its figures go."""
    session = Session(item.nodeid, lambda: _figures(item), lazy=True)
    item.stash[_sessions] = session
    with running(session):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Pass on what a marked test, or one that uses the fixture, has measured."""
    try:
        return (yield)
    finally:
        if item.get_closest_marker(MARK) or MARK in getattr(item, "fixturenames", ()):
            # text in the report's properties reaches the controller from workers of xdist
            item.user_properties[:] = [p for p in item.user_properties if p[0] != MARK]
            item.user_properties += [(MARK, m.to_json()) for m in item.stash[_sessions].measured]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Draw the figures of the failures that made the test fail, and of no others."""
    failures = sys.modules.get("gradconv.testing.failures")
    if call.excinfo is not None and failures is not None:
        for error in _chain(call.excinfo.value):
            trouble = error.draw() if isinstance(error, failures.CheckFailed) else ""
            if trouble:
                item.add_report_section(call.when, "gradconv", f"the figure {trouble}\n")
    return (yield)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception with its causes, contexts and, of a group, parts."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [current.__cause__, current.__context__]
            waiting += current.exceptions if isinstance(current, BaseExceptionGroup) else ()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the orders that were measured, if any were."""
    found = {
        report.nodeid: [Measurement.from_json(text) for name, text in properties if name == MARK]
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        and (properties := getattr(report, "user_properties", []))
    }
    lines = [(test, m) for test in sorted(found) for m in found[test]]
    if not lines:
        return
    from gradconv.testing.failures import table

    terminalreporter.write_sep("=", "orders under mesh refinement (gradconv)")
    terminalreporter.write_line(
        table(
            ("test", "quantity", "order", "interval", "verdict", "expected", ""),
            [[test, *_cells(m)] for test, m in lines],
        )
    )


def _cells(m: Measurement) -> list[str]:
    order = "-" if math.isnan(m.order) else f"{m.order:+.3g}"
    interval = "-" if math.isnan(m.low) else f"[{m.low:+.3g}, {m.high:+.3g}]"
    expected = "-" if m.expected is None else f"{m.expected:+g}"
    return [m.label, order, interval, m.verdict, expected, "" if m.passed else "not met"]


class MeshConvergence:
    """What the fixture ``mesh_convergence`` gives: levels to measure on, and the assertion.

    Attributes
    ----------
    order : float or None
        Expected order, from the marker.
    quantity : str
        Gap that a module is judged by, from the marker; default "rms_gap".
    levels : tuple of int or None
        First and last power of two, from ``--mesh-levels``, else from the marker.
    dim : int
        Dimension of `hierarchy`, from the marker; default 1.
    tolerance : float or None
        Largest distance of an interval's ends from the order, from the marker.
    """

    def __init__(self, marks: dict[str, Any], command_line: str | None) -> None:
        from gradconv.errors import InputError, unknown_name

        for name in marks:
            if name not in _CHOICES:
                raise unknown_name(MARK, name, _CHOICES)
        self.order: float | None = marks.get("order")
        self.quantity: str = marks.get("quantity", "rms_gap")
        self.dim: int = marks.get("dim", 1)
        if self.dim not in DEFAULT_LEVELS:
            raise InputError(f"`dim` must be 1, 2 or 3; got {self.dim!r}")
        self.tolerance: float | None = marks.get("tolerance")
        self._forced = command_line is not None
        given = marks.get("levels") if command_line is None else command_line
        self.levels = None if given is None else _levels(given)

    @property
    def hierarchy(self) -> MeshHierarchy:
        """The meshes; without levels given, 16 to 512 cells in 1-D, 8 to 64 in 2-D, 4 to 32."""
        from gradconv.mesh import MeshHierarchy

        first, last = self.levels or DEFAULT_LEVELS[self.dim]
        return MeshHierarchy.powers_of_two(self.dim, first, last)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Cells an axis of the meshes, coarse to fine."""
        return self.hierarchy.sizes

    @property
    def h(self) -> list[float]:
        """Mesh sizes, coarse to fine, in units of the box."""
        return [float(h) for h in self.hierarchy.h]

    def __call__(
        self, subject: Any, values: Any = None, *, order: float | None = None, **options: Any
    ) -> Rate | Audit:
        """Assert an order, which the summary of the run then lists.

        Parameters
        ----------
        subject : torch.nn.Module, callable or array_like
            A module or what makes one, for `gradconv.testing.assert_gradient_converges`; or the
            mesh sizes of `values`, for `gradconv.testing.assert_order`.
        values : array_like, optional
            Values at the mesh sizes (`paths` for sample paths).
        order : float, optional
            Expected order; default: that of the marker. A module without one need only converge.
        **options
            Further arguments of the assertion.

        Returns
        -------
        Rate or Audit
            What the assertion returns.

        Raises
        ------
        CheckFailed
            If the assertion does not hold; an `AssertionError`.
        InputError
            If an argument breaks a rule.
        """
        __tracebackhide__ = True
        expected = self.order if order is None else order
        if self.tolerance is not None:
            options.setdefault("tolerance", self.tolerance)
        if not callable(subject):
            from gradconv.testing.orders import assert_order

            return assert_order(subject, values, expected, **options)
        from gradconv.errors import InputError
        from gradconv.testing.gradients import assert_gradient_converges

        if values is not None:
            raise InputError("`values` go with mesh sizes; got them with a module or factory")
        options.setdefault("quantity", self.quantity)
        own = "hierarchy" in options and not self._forced
        fields = isinstance(options.get("data"), tuple | list)  # their size sets the levels
        if self.levels and not own and not fields:
            options["hierarchy"] = tuple(2**e for e in range(self.levels[0], self.levels[1] + 1))
        return assert_gradient_converges(subject, expected, **options)


@pytest.fixture
def mesh_convergence(request: pytest.FixtureRequest) -> MeshConvergence:
    """Levels to measure an order on, and the assertion: call it with a module, or h and values."""
    marks: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(MARK))):  # the closest one last
        if mark.args:
            from gradconv.errors import InputError

            raise InputError(f"`{MARK}` takes arguments by name only; got {mark.args!r}")
        marks.update(mark.kwargs)
    return MeshConvergence(marks, request.config.getoption("--mesh-levels"))


def _figures(item: pytest.Item) -> Path:
    given = item.config.getoption("--mesh-figures")
    if given is not None:
        return Path(item.config.invocation_params.dir, given)
    factory = getattr(item.config, "_tmp_path_factory", None)  # absent under -p no:tmpdir
    base = Path(tempfile.mkdtemp()) if factory is None else Path(factory.getbasetemp())
    return base / "mesh-figures"


def _levels(value: object) -> tuple[int, int]:
    """Read ``"A:B"`` or a pair."""
    from gradconv.mesh import read_levels

    pair = isinstance(value, tuple | list)
    return read_levels(":".join(map(str, value)) if pair else value, fit=True)  # type: ignore[call-overload]
