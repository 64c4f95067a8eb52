"""The lumbar phantom with stenosis of known grade, and cohorts of it in the layout of the RSNA data."""
