"""The console's icons: strokes in a 16 x 16 box, drawn in the colour of the text beside them."""

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

PATHS = {
    "alert": "M8 2 1.8 13.5h12.4zM8 6.5v3.2M8 11.6v.1",
    "check": "M3 8.5 6.5 12 13 4.5",
    "clock": "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M8 4.5V8l2.4 1.6",
    "cross": "M4 4l8 8M12 4l-8 8",
    "dot": "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6",
    "down": "M8 2v8M4.5 7 8 10.5 11.5 7M3 13.5h10",
    "flask": "M6 2h4M7 2v4.5L3.2 13c-.3.6 0 1 .6 1h8.4c.6 0 .9-.4.6-1L9 6.5V2M5 10.5h6",
    "forward": "M3 3.5 8 8l-5 4.5M8.5 3.5 13.5 8l-5 4.5",
    "layers": "M8 2 14 5.2 8 8.4 2 5.2zM2.5 8.5 8 11.4l5.5-2.9M2.5 11.2 8 14.1l5.5-2.9",
    "pause": "M5.5 3v10M10.5 3v10",
    "pin": "M5.5 2h5M6.5 2v4L4 9h8L9.5 6V2M8 9v5",
    "play": "M4.5 2.8v10.4L13 8z",
    "send": "M14 2 7 9M14 2 9.7 14 7 9 2 6.3z",
    "shield": "M8 1.8 13 3.6v4c0 3-2.2 5.3-5 6.6-2.8-1.3-5-3.6-5-6.6v-4zM5.7 7.8l1.7 1.7 3-3.2",
    "stop": "M3.5 3.5h9v9h-9z",
    "turning": "M13.5 8A5.5 5.5 0 1 1 11.6 3.8M13.5 1.5v3.2h-3.2",
    "undo": "M2.5 6h7a4 4 0 0 1 0 8H6M5.5 3 2.5 6l3 3",
    "unplugged": "M2 2l12 12M4.6 8.5a5 5 0 0 1 2.2-1.2M9.6 7.4a5 5 0 0 1 1.8 1.1M2.3 6a8.5 8.5 0 0 1 2.5-1.7"
    "M7.5 3.5A8.5 8.5 0 0 1 13.7 6M8 12.5v.1",
}


def icon(name: str) -> SafeString:
    """The icon as inline SVG, hidden from screen readers: the word beside it says the same."""
    return format_html(
        '<svg class="icon" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.7" '
        'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="{}"/></svg>',
        mark_safe(PATHS[name]),  # noqa: S308 - our own constant
    )
