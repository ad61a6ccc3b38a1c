from . import alignment as alignment
