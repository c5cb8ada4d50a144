"""Link between assertions and the pytest plugin: where figures go, what has been measured.

Standard library only: the plugin imports this file at the start of every run of pytest.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Measurement:
    """One order that an assertion measured, as the summary of a run lists it.

    Attributes
    ----------
    label : str
        What was measured.
    order, low, high : float
        Signed order and the ends of its interval; nan without a fit.
    verdict : str
        Verdict of the fit.
    expected : float or None
        Order that was asserted.
    passed : bool
        Whether the assertion held.
    """

    label: str
    order: float
    low: float
    high: float
    verdict: str
    expected: float | None
    passed: bool

    def to_json(self) -> str:
        """Write as JSON, where nan and infinities are strings."""
        return json.dumps(
            {
                k: str(v) if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in asdict(self).items()
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """Read what `to_json` wrote."""
        stored = json.loads(text)
        for name in ("order", "low", "high", "expected"):
            if stored[name] is not None:
                stored[name] = float(stored[name])
        return cls(**stored)


@dataclass
class Session:
    """What an assertion needs to know of the test that runs it.

    Parameters
    ----------
    test : str
        Name of the test, from which files are named.
    folder : callable
        Returns the folder for figures; called on failure only.
    lazy : bool
        Whether figures wait until their failure has made the test fail: a test that expects
        failures, over many random examples perhaps, should not draw them all.
    measured : list of Measurement
        What assertions have recorded.
    failures : int
        How many assertions have failed, from which files are named.
    """

    test: str
    folder: Callable[[], Path]
    lazy: bool = False
    measured: list[Measurement] = field(default_factory=list)
    failures: int = 0


_current: ContextVar[Session | None] = ContextVar("gradconv_session", default=None)


@contextmanager
def running(session: Session) -> Iterator[Session]:
    """Make `session` the current one for the assertions inside."""
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)


def record(measurement: Measurement) -> None:
    """Hand a measured order to the current session, if there is one."""
    session = _current.get()
    if session is not None:
        session.measured.append(measurement)


def current_test() -> str | None:
    """Return the name of the test that runs, as pytest takes it; None outside the plugin."""
    session = _current.get()
    return None if session is None else session.test


def figures_wait() -> bool:
    """Whether figures are drawn only once their test has failed."""
    session = _current.get()
    return session is not None and session.lazy


def failure_files(check: str) -> Path:
    """Return a path without suffix under which the files of a failure are kept.

    Outside the plugin it lies in a new temporary folder.
    """
    session = _current.get()
    if session is None:
        return Path(tempfile.mkdtemp(prefix="gradconv-")) / check
    session.failures += 1
    number = f"-{session.failures}" if session.failures > 1 else ""
    name = re.sub(r"[^\w.-]+", "-", session.test).strip("-")[-120:]
    try:
        folder = session.folder()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # what failed must be told all the same
        folder = Path(tempfile.mkdtemp(prefix="gradconv-"))
    return folder / f"{name}-{check}{number}"
