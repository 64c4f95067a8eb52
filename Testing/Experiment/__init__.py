"""The experiment on phantoms: does resampling help grading?

Lumbar phantoms with stenosis of known grade, scanned into the layout of the RSNA data, and what networks make of acquired
and resampled planes of them. It runs from the source code alone and is no part of what is installed:
`python -m GaussianMRILib experiment phantom --folder experiment/ --reduced`.
"""
