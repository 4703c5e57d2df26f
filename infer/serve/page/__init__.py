"""Makes the page at `/`: one file that asks this server alone, and shows nothing before it has answered.

The page's policy forbids any script but its own and any other server, as the report's does.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from metrics.page_colors import PAGE_COLORS

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """Holds the page and the headers that go with it."""

    html: bytes
    headers: dict[str, str]


def make_page() -> Page:
    """Returns the page, its style and script inside."""
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    style = PAGE_COLORS + (_FOLDER / "page.css").read_text(encoding="utf-8")
    body = (_FOLDER / "page.html").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>Edgewise: a switcher at work</title><style>{style}</style></head><body>{body}"
        f"<script>{script}</script></body></html>\n"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    return Page(html.encode(), headers)


PAGE = make_page()
