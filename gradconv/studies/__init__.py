"""Studies: a question, a declarative configuration, stored data, and figures of the data alone."""

from gradconv.studies.kinds import KINDS, StudyFigure, StudyKind
from gradconv.studies.running import run_study
from gradconv.studies.stored import read_results
from gradconv.studies.study import SIZES, Study, find_studies, load_study

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
