"""Studies: a question, a declarative configuration, stored data, and figures of the data alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradconv.loading import lazy

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

__getattr__, __dir__ = lazy(__name__, _HOMES)
