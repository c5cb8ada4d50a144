"""Studies: a question, a declarative configuration, stored data, and figures of the data alone."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradconv.studies.kinds import KINDS, StudyFigure, StudyKind
    from gradconv.studies.running import run_study
    from gradconv.studies.stored import read_results
    from gradconv.studies.study import SIZES, Study, find_studies, load_study

# Names load on first use: the command line must not wait for torch.
_HOMES = {
    "KINDS": "kinds",
    "SIZES": "study",
    "Study": "study",
    "StudyFigure": "kinds",
    "StudyKind": "kinds",
    "find_studies": "study",
    "load_study": "study",
    "read_results": "stored",
    "run_study": "running",
}

__all__ = [
    "KINDS",
    "SIZES",
    "Study",
    "StudyFigure",
    "StudyKind",
    "find_studies",
    "load_study",
    "read_results",
    "run_study",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
