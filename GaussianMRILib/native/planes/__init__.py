"""Images of Gaussians on planes with their gradient, structural similarity, and Adam.

`operators` registers them with torch, `reference` is the definition in plain torch, `cpu` calls the compiled library,
`cuda` launches the GPU kernels, `arguments` is what they have in common; sources: csrc/planes, whose math.h has the model.
"""
