"""Measurements: kernels, quality, fits. `make bench`."""
