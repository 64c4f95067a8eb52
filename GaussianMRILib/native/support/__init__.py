"""What the kernels of every capability share: the compiled library, CUDA launches, registration with torch, checks."""
