from . import criticality as criticality
from . import pac_bayes as pac_bayes
from . import rewinding as rewinding
