"""tlx: what is being transferred in transfer learning?

The analyses are pure functions over any pytree of parameters and any apply
function: see `tlx.core` for what they are written against and `tlx.analyses`
for one file a question. Importing `tlx` itself imports nothing else.
"""

__version__ = "0.1.0"
