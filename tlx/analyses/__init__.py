"""What is compared, in the four spaces of the question, and in each the questions, one file each.

`function`: what models answer (mistakes, learning curves, comparisons of seeds). `features`: what
their layers represent, and what can be read from it. `parameters`: how far their weights are apart,
where they moved, and their spectra. `landscape`: the loss between and around them. All are pure
functions of any parameters and any apply function, and each wing gives its functions by one import:

    from tlx.analyses import landscape
    landscape.line(...)

Each returns a NamedTuple of arrays, a similarity of two matrices a scalar. Wings do not import
each other.

What each does with the leaves of parameters, by their kind ("floating" is of any width, 0-d and
empty leaves, numpy's scalars and Python's floats included; "whole" is integer, bool or a random
key; "constant" an infinity or NaN that all models hold, as in a causal mask; None is no leaf):

    analysis                    floating    complex     whole       constant
    interpolation               moves       both parts  stays       stays
    connectivity                moves       both parts  stays       stays
    averaging                   moves       both parts  stays       stays
    planes                      moves       both parts  stays       stays
    trajectories                moves       both parts  stays       stays
    basins                      moves       both parts  stays       stays
    criticality                 moves       both parts  stays       stays
    pac_bayes                   moves       both parts  stays       stays
    directions                  moves       both parts  stays       stays
    sharpness                   moves       both parts  stays       stays
    curvature                   moves       both parts  stays       zero
    rewinding                   goes along  goes along  goes along  goes along
    distances                   counts      both parts  left out    left out
    movement                    counts      both parts  left out    left out
    movement.subspace_overlap   counts      counts      left out    NaN
    movement.principal_overlap  counts      both parts  left out    left out
    spectra                     counts      named       left out    NaN
    alignment                   counts      refused     left out    refused

"Both parts": the real and the imaginary part of a complex number are two real numbers, in norms,
sizes, noise and derivatives. "Stays": it is neither moved nor counted; where models lie on one
path and a whole leaf differs between them, that is refused. "Zero": its derivatives are.
"Goes along": a module comes with all its leaves. "Named": in `passed_over`. "NaN": for that leaf
alone. Batch statistics are leaves, and no weights: see each analysis. An infinity or a NaN in one
model only is infinite or NaN in a distance, and refused where a plane is spanned.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
