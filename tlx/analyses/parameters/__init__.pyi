from . import change as change
from . import distances as distances
from . import movement as movement
from . import spectra as spectra
from .movement import alignment_of_movement as alignment_of_movement
from .movement import principal_overlap as principal_overlap
from .movement import scale_invariant_leaves as scale_invariant_leaves
from .movement import subspace_overlap as subspace_overlap
