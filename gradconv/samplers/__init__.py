"""What enters a torch module on every level: numbered samples, coupled over the levels."""

from gradconv.samplers.base import Batch, Sampler
from gradconv.samplers.by_level import CallableSampler
from gradconv.samplers.cropped import CroppedSampler
from gradconv.samplers.loader import LoaderSampler
from gradconv.samplers.making import as_sampler
from gradconv.samplers.noisy import NoisySampler
from gradconv.samplers.problem import ProblemSampler
from gradconv.samplers.restricting import RestrictionRoute
from gradconv.samplers.tensors import TensorSampler

__all__ = [
    "Batch",
    "CallableSampler",
    "CroppedSampler",
    "LoaderSampler",
    "NoisySampler",
    "ProblemSampler",
    "RestrictionRoute",
    "Sampler",
    "TensorSampler",
    "as_sampler",
]
