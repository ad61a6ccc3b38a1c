"""Reading: what several questions take from the records."""
