"""Data: sources by name, image operations on device, evaluation streams, training batches."""
