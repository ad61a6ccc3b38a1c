"""Words: numbers as text, verdicts, kinds of model, tables."""
