from . import problems as problems
from . import serial as serial
from . import typed as typed
from .files import absolute as absolute
from .files import arguments as arguments
from .files import build as build
from .files import load as load
from .typed import ConfigError as ConfigError
