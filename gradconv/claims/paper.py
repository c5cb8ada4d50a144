"""The twelve claims of the paper, as data: what is claimed, where, and what it is held against.

S. Ahamed, N. Zakariaei, E. Haber, M. Eliasof, "Multiscale Training of Convolutional Neural
Networks", arXiv:2501.12739, versions 1 to 3; Transactions on Machine Learning Research, 2026.
"""

from __future__ import annotations

from gradconv.claims.claim import Bound, Case, Claim, Criterion, Source

# Meshes on which one power of h rules, found by looking at pairwise orders.
EXACT_LEVELS = {1: (4, 11), 2: (4, 9)}
# Levels and paths of the sampled cases. The gap of a mesh-free kernel comes from few modes, so
# that it spreads more from path to path than that of a stencil, which averages over all pixels.
STENCIL = {1: ((6, 12), 256), 2: ((4, 8), 64)}
MESH_FREE = {1: ((6, 12), 256), 2: ((4, 8), 512)}
GAPS = ("mean_gap", "rms_gap")
SMALL_LOSS = 0.05  # "no significant loss": at most 5 % of the standard training's score
LOSS = "relative loss of score ≤ 0.05 (“no significant loss”: our choice)"


def _smooth_cases() -> tuple[Case, ...]:
    settings = (("coarsening", "average"), ("coarsening", "injection"), ("refinement", "average"))
    return tuple(
        Case(
            {
                "kernel": "stencil",
                "signal": "band-limited:2",
                "target": target,
                "noise": "none",
                "setting": setting,
                "restriction": restriction,
                "dim": dim,
            },
            EXACT_LEVELS[dim],
            2,
            ("mean_gap",),
        )
        for dim in (1, 2)
        for target in ("identity", "blur:0.05", "shift:0.15")
        for setting, restriction in settings
    )


def _noisy(
    kernel: str,
    noise: str,
    setting: str,
    restriction: str,
    dim: int,
    quantities: tuple[str, ...] = GAPS,
    paths: int | None = None,
) -> Case:
    problem = {
        "kernel": kernel,
        "signal": "plane-wave:3",
        "target": "identity",
        "noise": noise,
        "setting": setting,
        "restriction": restriction,
        "dim": dim,
    }
    levels, replicates = (STENCIL if kernel == "stencil" else MESH_FREE)[dim]
    return Case(problem, levels, paths or replicates, quantities)


def _stencil_cases() -> tuple[Case, ...]:
    cases = []
    for dim in (1, 2):
        rough, smooth = f"power:{0.5 * dim}:3", f"power:{1.5 * dim}:3"
        cases += [
            _noisy("stencil", "pixel:20", "coarsening", "average", dim),
            _noisy("stencil", "white:2", "refinement", "average", dim),
            _noisy("stencil", rough, "refinement", "average", dim, paths=32),
            _noisy("stencil", "pixel:20", "coarsening", "injection", dim),
            _noisy("stencil", "pixel:20", "refinement", "injection", dim),
            _noisy("stencil", smooth, "refinement", "average", dim, paths=32),
        ]
    # correlated in space: the covariance between neighbours changes although no power is lost.
    # In 1-D the data's own mesh size is felt on too many levels for a fit.
    cases.append(
        _noisy("stencil", "power:1.0:3", "coarsening", "injection", 2, ("mean_gap",), paths=2)
    )
    return tuple(cases)


def _mesh_free_cases() -> tuple[Case, ...]:
    # the strength of the noise is our choice, such that one power of h rules each window: under
    # averaging the rms gap has order 2 as the mean where h_L ≪ h, and 1 next to h_L in strong noise
    return tuple(
        _noisy("mfc", *choices, dim)
        for dim in (1, 2)
        for choices in (
            (f"pixel:{20 if dim == 1 else 1}", "coarsening", "average"),
            ("white:0.5", "refinement", "average"),
            ("pixel:0.02", "coarsening", "injection"),
            ("pixel:0.02", "refinement", "injection"),
        )
    )


def _network(statement: str, relation: str, threshold: float) -> tuple[Criterion, ...]:
    return (Criterion("network_order", statement, relation, threshold, required=False),)


CLAIMS = (
    Claim(
        "smooth-order",
        1,
        "Noise-free gradients on h and 2h differ by O(h)",
        "For inputs without noise, the gradients of a standard convolution on mesh sizes h and 2h "
        "differ by O(h).",
        Source("arXiv v1-v3", "lemma on standard convolution kernels"),
        live="orders",
        bound=Bound("at least", 1.0),
        cases=_smooth_cases(),
        criteria=_network("signed order of a network's gap, no noise, ≥ 1", "at least", 1.0),
        networks=True,
    ),
    Claim(
        "noise-divergence",
        2,
        "Noise: gradients of standard convolutions fail to converge",
        "With noisy inputs the gradient of a standard CNN may fail to converge as h -> 0, and it "
        "diverges on fine grids.",
        Source("arXiv v1, v3", "abstract of v1; section on standard convolutions and noise"),
        live="orders",
        bound=Bound("at most", 0.0),
        cases=_stencil_cases(),
        criteria=_network("signed order of a network's gap, noisy input, ≤ 0", "at most", 0.0),
        networks=True,
    ),
    Claim(
        "mfc-order",
        3,
        "Noise: gradients of mesh-free convolutions converge, at O(h)",
        "With noisy inputs the gradients of mesh-free convolutions (MFC) converge, at O(h).",
        Source("arXiv v1, v2", "lemma on mesh-free convolutions"),
        live="orders",
        bound=Bound("at least", 1.0),
        cases=_mesh_free_cases(),
        criteria=_network("signed order of an MFC network's gap, noise, ≥ 1", "at least", 1.0),
        networks=True,
    ),
    Claim(
        "scale-independence",
        4,
        "Mesh-free convolutions do not depend on the input's scale",
        "The same MFC parameters give the same continuous operator at every resolution.",
        Source("arXiv v1, v2", "abstract of v1; section on mesh-free convolutions"),
        live="scale",
    ),
    Claim(
        "unbiased-sum",
        5,
        "The multiscale sum is an unbiased estimate",
        "The telescopic multiscale sum is an unbiased estimate of the finest mesh's gradient.",
        Source("arXiv v3", "section on multiscale gradient estimation"),
        criteria=(
            Criterion(
                "relative_bias",
                "bias over the norm of the finest gradient is 0, known to 0.05 (our choice)",
                "equals",
                0.0,
                tolerance=0.05,
                rounding=1e-10,
            ),
        ),
    ),
    Claim(
        "batch-variance",
        6,
        "Larger coarse batches: the same variance for a fraction of the cost",
        "Larger batches on coarse levels give the variance of the single-scale estimate at a "
        "fraction of the cost; the number of fine-mesh convolutions falls by 4 with each "
        "downsampling in 2-D.",
        Source("arXiv v3", "abstract; section on multiscale gradient estimation"),
        criteria=(
            Criterion(
                "variance_ratio",
                "variance over that of one scale ≤ 1.1 (10 % allowed: our choice)",
                "at most",
                1.1,
            ),
            Criterion(
                "cost_ratio",
                "cost over that of one scale ≤ 0.5 (“a fraction”: our choice)",
                "at most",
                0.5,
            ),
            Criterion(
                "fine_convolution_factor",
                "fine-mesh convolutions fall by 4 a downsampling in 2-D, known to 0.4 (our choice)",
                "equals",
                4.0,
                tolerance=0.4,
                rounding=1e-9,
            ),
        ),
    ),
    Claim(
        "work-units",
        7,
        "Work units 480 000, 74 000 and 28 750",
        "Training costs 480 000 work units on a single scale, 74 000 with multiscale gradients "
        "and 28 750 with full multiscale training.",
        Source("arXiv v3", "table of work units"),
        criteria=tuple(
            Criterion(
                f"work_units_{kind}",
                f"work units of {kind.replace('_', ' ')} training = {number:,}".replace(",", " "),
                "equals",
                float(number),
                rounding=0.5,
            )
            for kind, number in (
                ("single_scale", 480_000),
                ("multiscale", 74_000),
                ("full_multiscale", 28_750),
            )
        ),
    ),
    Claim(
        "cost-reduction",
        8,
        "Full multiscale training: 4 to 16 times cheaper, no significant loss",
        "Full multiscale training cuts the cost by 4 to 16 times with no significant loss of "
        "accuracy, in denoising, deblurring, inpainting and super-resolution, for UNet, ResNet "
        "and ESPCN.",
        Source("arXiv v3", "abstract; tables of the experiments"),
        criteria=(
            Criterion(
                "cost_reduction",
                "cost of one scale over that of full multiscale ≥ 4 (sharpened from 16 on)",
                "at least",
                4.0,
                sharper=16.0,
            ),
            Criterion("score_loss", LOSS, "at most", SMALL_LOSS),
        ),
        coverage={
            "task": ("denoising", "deblurring", "inpainting", "super-resolution"),
            "network": ("UNet", "ResNet", "ESPCN"),
        },
    ),
    Claim(
        "hot-start",
        9,
        "Hot starts cut fine iterations by about an order of magnitude",
        "Hot-starting from coarser meshes cuts the iterations on the finest mesh by about an "
        "order of magnitude.",
        Source("arXiv v3", "abstract; section on full multiscale training"),
        criteria=(
            Criterion(
                "fine_iteration_factor",
                "iterations from a cold start over those from a hot one ≥ 5 (“about an order of "
                "magnitude”, sharpened from 20 on: our choice)",
                "at least",
                5.0,
                sharper=20.0,
            ),
        ),
    ),
    Claim(
        "mfc-speed-up",
        10,
        "Mesh-free convolutions speed up without losing performance",
        "Mesh-free convolutions deliver the speed-up in theory without sacrificing performance "
        "in practice.",
        Source("arXiv v1", "abstract; section of experiments"),
        criteria=(
            Criterion(
                "theoretical_speed_up", "cost of one scale over multiscale ≥ 1", "at least", 1.0
            ),
            Criterion("score_loss", LOSS, "at most", SMALL_LOSS),
        ),
    ),
    Claim(
        "standard-multiscale",
        11,
        "Standard convolutions benefit where noise is not significant",
        "Standard convolutions benefit from multiscale training when the noise is not significant.",
        Source("arXiv v1, v2", "abstract; section of experiments"),
        criteria=(
            Criterion(
                "low_noise_cost_reduction",
                "cost of one scale over multiscale at low noise ≥ 1",
                "at least",
                1.0,
            ),
            Criterion(
                "low_noise_score_loss",
                "relative loss of score at low noise ≤ 0.05 (“benefit”: our choice)",
                "at most",
                SMALL_LOSS,
            ),
        ),
    ),
    Claim(
        "mfc-in-cnn",
        12,
        "Mesh-free convolutions can be put into standard CNNs",
        "Mesh-free convolutions can replace the convolutions of standard CNNs.",
        Source("arXiv v1, v2", "section on mesh-free convolutions"),
        criteria=(
            Criterion(
                "gradient_error",
                "error of the network's gradient against differences ≤ 1e-5 (our choice)",
                "at most",
                1e-5,
            ),
            Criterion("score_loss", LOSS, "at most", SMALL_LOSS),
        ),
    ),
)
