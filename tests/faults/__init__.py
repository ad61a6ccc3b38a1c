"""Faults on purpose: kills at random moments, and what else can happen to a run."""
