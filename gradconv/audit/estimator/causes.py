"""The causes that an audit of an estimator can name."""

from __future__ import annotations

STEP = "(step)"  # what belongs to no single term

SIGN = "wrong sign"
DETACHED = "coarse side without a gradient"
MISSING_COARSE = "coarse side missing"
MISSING_COARSEST = "coarsest term missing"
MISSING_TERM = "term missing"
UNUSED = "declared mesh not used"
WRONG_WEIGHT = "wrong weight"
AVERAGED = "terms averaged"
SUM_CELLS = "loss summed over cells"
SUM_BATCH = "loss summed over the batch"
SUM_BOTH = "loss summed over cells and batch"
NORM = "loss not a mean"

ZEROED = "gradients zeroed between terms"
UPDATED = "weights change between terms"
STALE = "gradients of earlier steps kept"

DIFFERENT = "fine and coarse on different samples"
FRESH = "fine and coarse with different noise"
ROUTES = "restriction not nested"
COUPLED = "fine and coarse made apart from one sample"
SHARED = "samples shared by terms"
REBUILT = "iterator rebuilt at every step"
SEED = "seed fixed at every step"
NOISE = "noise of one size on every mesh"
SCALED = "levels scaled differently"
LAWS = "levels see different laws"

CONSTANT = "batch sizes constant"
REVERSED = "batch sizes reversed"
UNORDERED = "batch sizes do not grow"
UNDECLARED = "batch sizes not as declared"
WORK = "work not as claimed"

EVALUATION = "evaluation mode"
BATCH_STATISTICS = "batch statistics"
RANDOM_LAYERS = "fine and coarse draw different random numbers"
