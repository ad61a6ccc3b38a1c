"""The report: records in, tables, figures and one page out; no jax.

`page.write` makes the page, `figures` gives each of its figures in one call (both need matplotlib:
`pip install '.[report]'` in the clone), `summary.text` the key numbers as text. Each question of
the page has a room in `tlx.report.questions`.
"""
