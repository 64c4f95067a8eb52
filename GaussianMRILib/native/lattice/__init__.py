"""Images of a lattice of Gaussians of one shape in sparse bricks, their adjoint, and a smoothness prior.

`operators` registers them with torch, `reference` is the definition in plain torch, `cuda` launches the GPU kernels;
sources: csrc/lattice, whose math.h has the model.
"""
