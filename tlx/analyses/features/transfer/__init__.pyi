from . import domains as domains
from . import probes as probes
from . import transferability as transferability
