"""One-line faults put into tlx, and whether its tests see them: `python -m tests.mutation`."""
