"""Feature space: how alike layers are, and what they give to another task.

`similarity` compares two sets of features of the same examples: `cka_matrix` (CKA of all pairs of
layers, streaming), `matrix` (any measure of `measures`), `evidence` (chance and sampling error of
a value), and the measures on two matrices, in `cka` (with `kernels`), `cca`, `shape`, `rsa` and
`neighbors`. `transfer` reads features before any fine-tuning: `probes` (what a linear map finds in
each layer), `transferability` (which start promises most), `domains` (how far apart two sets of
inputs are).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
