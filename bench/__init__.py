"""Measurements. Ratios within one run are what counts: machines, and neighbours on them, differ."""
