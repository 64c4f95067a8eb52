"""Grades of spinal stenosis: discs, regions of interest, networks, and the experiment that compares planes."""
