"""The questions, one file each: pure functions over any parameters and any apply function.

Between and around models: `interpolation` (lines, barriers and their peaks), `planes`,
`directions`, `trajectories`, `connectivity` (trained curves), `basins`, `averaging`,
`alignment` (permuted units), `curvature`, `sharpness`. Of features: `similarity` (CKA of all
pairs of layers, streaming), `all_pairs` (any measure of `measures`), `evidence` (chance and
sampling error of a value); the measures on two matrices are in `cka` (with `kernels`), `cca`,
`shape`, `rsa` and `neighbors`; `probes` (what a linear map reads from a layer). Of modules:
`rewinding`, `criticality`, `pac_bayes`. Of parameters: `distances`, `movement`, `spectra`. Of
mistakes: `predictions`, `mistakes`. Before fine-tuning:
`transferability`, `domains` (how far apart two sets of inputs are). Of curves and of comparisons:
`learning`, `inference`. Each returns a NamedTuple of arrays, those on two matrices a scalar.
"""
