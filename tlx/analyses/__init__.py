"""The questions, one file each: pure functions over any parameters and any apply function.

Between and around models: `interpolation` (lines, barriers and their peaks), `planes`,
`directions`, `trajectories`, `connectivity` (trained curves), `basins`, `averaging`,
`alignment` (permuted units), `curvature`, `sharpness`. Of features: `similarity`. Of
parameters: `distances`. Of mistakes: `agreement`. Each returns a NamedTuple of arrays.
"""
