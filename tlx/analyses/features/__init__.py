"""Feature space: how similar layers are, and how useful they are for another task.

`similarity` compares two sets of features of the same examples: `cka_matrix` (CKA of all pairs of
layers, streaming), `matrix` (any measure of `measures`), `evidence` (null distribution and sampling
error of a value), and the measures on two matrices, in `cka` (with `kernels`), `cca`, `shape`,
`rsa` and `neighbors`. `transfer` evaluates features before any fine-tuning: `probes` (the accuracy
of linear probes on each layer), `transferability` (scores that predict which start transfers best),
`domains` (the distance between two sets of inputs).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
