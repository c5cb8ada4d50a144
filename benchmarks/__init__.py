"""Benchmarks: every time is a ratio, measured in one run, to bare FFTs or to a loop of autograd."""
