"""What two checkpoints share and where they differ: `tlx audit`.

`models.load` reads them, `weights.compare` measures what weights alone show, `behaviour.compare`
what data show, `findings` says it in words, and `page.write` makes the page and its tables.
"""
