"""Pictures of splats that a plane cuts open, with their gradients.

`operators` registers them with torch, `reference` is the definition in plain torch, `cpu` calls the compiled library,
`cuda` launches the GPU kernels, `arguments` is what they have in common; sources: csrc/splats, whose math.h has the model.
"""
