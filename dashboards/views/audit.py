"""The audit log, newest first."""

import json

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboards.views.pages import page
from fleet.models import AuditEntry
from fleet.services.audit import newest_head

PER_PAGE = 50


@page
def audit_log(request: HttpRequest) -> HttpResponse:
    below = request.GET.get("below", "")
    entries = AuditEntry.objects.exclude(number=None).order_by("-number")
    if below.isdecimal() and len(below) < 19:
        entries = entries.filter(number__lt=int(below))
    found = list(entries[: PER_PAGE + 1])
    context = {
        "section": "audit",
        "head": newest_head(),
        "entries": [(entry, _facts(entry.detail)) for entry in found[:PER_PAGE]],
        "next": found[PER_PAGE - 1].number if len(found) > PER_PAGE else None,
    }
    return render(request, "dashboards/audit.html", context)


def _facts(detail: object) -> list[tuple[str, str]]:
    """What an entry says beside who, what and whom; names are programs' own."""
    if not isinstance(detail, dict):
        return []
    return [(str(name), _plain(value)) for name, value in detail.items() if value not in ("", None)]


def _plain(value: object) -> str:
    """A list as people write it, anything deeper as JSON."""
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        return ", ".join(str(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
