"""Parts of the Gaussian MRI Resampling module's panel."""
