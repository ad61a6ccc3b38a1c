"""Panels as SVG text."""

import html
import io
import re

from tlx.report.draw import hover
from tlx.report.draw.look import matplotlib, style
from tlx.report.draw.panels import Panel, figure

_LONG = re.compile(r"(?<![\w.])-?\d+\.\d{3,}(?![\w.])")
"""Numbers with more digits than a screen shows."""


def svg(panel: Panel, prefix: str) -> str:
    """A panel as an `<svg>` element to stand in a page.

    Text stays text; every id starts with `prefix`, so that pictures in one page do not
    clash; equal panels give equal text.
    """
    mpl = matplotlib("")
    drawn = figure([panel])
    buffer = io.StringIO()
    with style(), mpl.rc_context({"svg.hashsalt": prefix}):
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawn.savefig(buffer, format="svg", metadata=metadata)
        values = hover.overlay(drawn)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = _LONG.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), text)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    box = re.search(r'viewBox="[^"]+"', text)
    start = text.index(">") + 1
    more = ' class="wide"' if panel.is_wide else ""
    more += f' aria-describedby="{prefix}-alt"' if panel.alt else ""
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box.group(0) if box else ""}{more} role="img" aria-labelledby="{prefix}-title">\n'
        f'<title id="{prefix}-title">{html.escape(panel.title)}</title>'
    )
    if panel.alt:
        opening += f'\n<desc id="{prefix}-alt">{html.escape(panel.alt)}</desc>'
    return opening + text[start:].rstrip().removesuffix("</svg>") + f"{values}</svg>"
