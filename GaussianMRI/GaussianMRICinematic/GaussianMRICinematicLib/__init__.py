"""Parts of the Gaussian MRI Cinematic module's panel."""
