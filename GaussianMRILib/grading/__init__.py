"""Grades of spinal stenosis: discs, regions of interest, networks, their evaluation."""
