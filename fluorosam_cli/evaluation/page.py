"""The HTML of reports: one page of text, tables and pictures that needs no script, no other file and no network."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fluorosam_cli.anatomy.structures import display_name
from fluorosam_cli.anatomy.structures import names as known_names
from fluorosam_cli.artefacts import write_bytes
from fluorosam_cli.contracts import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.55 system-ui, "Segoe UI", sans-serif; color: #1c1c1c; background: #fff; max-width: 1180px;
  margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .5rem; border-top: 1px solid #ddd; padding-top: 1.2rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { max-width: 78ch; margin: .5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; margin: .6rem 0; }
td, th { padding: .2rem .75rem; border-bottom: 1px solid #e4e4e4; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: #fff; }
th { font-weight: 600; border-bottom: 1px solid #999; }
tr.head td { font-weight: 600; }
svg, img { max-width: 100%; height: auto; }
.muted { color: #666; } .wide { overflow-x: auto; } summary { cursor: pointer; margin: .6rem 0; }
.pair { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(235px, 1fr)); gap: .9rem; margin: .4rem 0 1rem; }
figure { margin: 0; } figcaption { font-size: .82rem; line-height: 1.35; color: #444; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .8rem 0; }
dt { color: #666; } dd { margin: 0; }
"""


PHRASES = {"file": "from the user's file", "all": "all", "train": "seen in training", "test": "held out of training"}


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write the page. Equal sections give equal bytes."""
    body = "\n".join(section for section in sections if section)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )
    write_bytes(path, page.encode())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, a line each."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs) + "</dl>"


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def interval(value: Estimate | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f"{value.mean:.{digits}f} ({value.ci95_low:.{digits}f}–{value.ci95_high:.{digits}f})"


def difference(value: Estimate, digits: int = 3) -> str:
    mean, low, high = (f"{x:+.{digits}f}".replace("-", "−") for x in (value.mean, value.ci95_low, value.ci95_high))
    return f"{mean} ({low} to {high})" if value.ci95_low < value.ci95_high else f"{mean} (no spread)"


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def spoken(structure: str) -> str:
    """The words a person reads for a structure; tools keep their name, with spaces."""
    return display_name(structure) if structure in known_names() else structure.replace("_", " ")


def svg(figure: "Figure", description: str) -> str:
    """The figure as SVG inside the page; its text stays text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "fluoro", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
    return f"<div>{drawn}</div>"


def picture(rgb: np.ndarray, title: str, caption: str) -> str:
    """(H, W, 3) uint8 as a JPEG with a title and a line below."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="JPEG", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{escape(title)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption><b>{escape(title)}</b><br>{escape(caption)}</figcaption></figure>"
    )
