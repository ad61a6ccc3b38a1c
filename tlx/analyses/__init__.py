"""The analyses, in four spaces: function, features, parameters and the loss landscape.

`function`: what models predict (mistakes, learning curves, comparisons over seeds). `features`:
what their layers represent, and what can be predicted from it. `parameters`: distances between
weights, their movement and their spectra. `landscape`: the loss between and around models. All are
pure functions of any parameters and any apply function, and one import gives all functions of a
wing:

    from tlx.analyses import landscape
    landscape.line(...)

Each returns a NamedTuple of arrays; a similarity of two matrices is a scalar. Wings do not import
each other.

How each treats the leaves of parameters, by their kind ("floating" of any width, including 0-d and
empty leaves, numpy's scalars and Python's floats; "integer": integers, bools and random keys;
"constant": an infinity or NaN that all models hold, as in a causal mask; None is not a leaf):

    analysis                    floating    complex     integer     constant
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
sizes, noise and derivatives. "Stays": neither moved nor counted; an integer leaf that differs
between the models of one path is an error. "Zero": its derivatives are zero.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
