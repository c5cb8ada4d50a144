"""How a mesh-free convolution is computed: which modes, their transforms, and the products.

`band` and `plan` choose the modes; `pairs` and `symbols` hold the kernels on them; `transform` and
`mixing` are the torch path, `compiled` with the `numba` files the compiled one; `operator` picks
the path and differentiates, `opaque` is the same for graphs under compilation.
"""
