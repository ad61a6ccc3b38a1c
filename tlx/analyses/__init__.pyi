from . import features as features
from . import function as function
from . import landscape as landscape
from . import parameters as parameters
