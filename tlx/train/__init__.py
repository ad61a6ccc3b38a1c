"""Training: a run described by a `RunSpec`, trained by `tlx.train.loop.train`."""
