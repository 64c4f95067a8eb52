"""Parts of the Gaussian MRI Grading module's panel."""
