__version__: str

from . import adapters as adapters
from . import analyses as analyses
from . import checkpoints as checkpoints
from . import config as config
from . import core as core
from . import data as data
from . import models as models
from . import records as records
from . import report as report
from . import studies as studies
from . import train as train
from .analyses import features as features
from .analyses import function as function
from .analyses import landscape as landscape
from .analyses import parameters as parameters
