"""Images of a lattice of Gaussians of one shape in sparse bricks, their adjoint, and a smoothness prior.

`operators` registers them with torch, `reference` is the definition in plain torch, `cpu` calls the compiled library,
`cuda` launches the GPU kernels, `arguments` is what they have in common; sources: csrc/lattice, whose math.h has the model.
"""
