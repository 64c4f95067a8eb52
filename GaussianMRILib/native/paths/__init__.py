"""Path tracing of a volume, and the faces that planes cut into it.

`operators` registers them with torch, `reference` is the same light transport in plain torch, `cpu` calls the compiled
library, `cuda` launches the GPU kernels, `arguments` is what they have in common; sources: csrc/paths, whose math.h has
the model.
"""
