"""What the household sees, in English and Chinese: one page of HTML without a script."""

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from device_agent.page.media import Media
from device_agent.player import Playback

STATES = {
    "idle": ("up to date", "已是最新"),
    "downloading": ("an update is being fetched", "正在下载更新"),
    "verifying": ("an update is being checked", "正在校验更新"),
    "staged": ("an update is ready", "更新已就绪"),
    "trial": ("an update is being tried", "正在试运行更新"),
    "probation": ("an update plays on probation", "更新处于试用期"),
    "committed": ("up to date", "已是最新"),
    "reverted": ("the last update went back", "上次更新已回退"),
    "failed": ("the last update did not come", "上次更新未成功"),
}


def household_page(
    status: Mapping[str, Any], films: Sequence[Playback], media: Media, notice: str | None = None
) -> str:
    """The page. ``status`` as ``Agent.status`` gives it, ``films`` newest first; ``notice``: why a film was refused."""
    probation = status.get("probation")
    english, chinese = STATES.get("probation" if probation else str(status.get("state")), ("starting", "正在启动"))
    rows = [
        ("Version · 版本", str(status.get("release_name") or "–")),
        ("State · 状态", f"{english} · {chinese}"),
    ]
    if probation:
        rows.append(("Probation · 试用期", _probation(probation)))
    if failure := status.get("failure"):
        rows.append(("Why · 原因", str(failure["detail"])))
    if (runtime := status.get("runtime")) and runtime["why"]:
        rows.append(("Runs on · 运行于", f"{runtime['uses']}: {runtime['why']}"))
    return _PAGE.format(
        style=_STYLE,
        frame=html.escape(str(status.get("frame_id", ""))),
        rows="\n".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in rows),
        notice=f'<p role="alert"><strong>{html.escape(notice)}</strong></p>' if notice else "",
        play=_play(media) if media.photos and media.voices else "",
        film=_film(films[0]) if films else "<p>No film yet · 还没有播放过</p>",
    )


def _probation(probation: Mapping[str, Any]) -> str:
    films = f"{probation['playbacks']}/{probation['playbacks_needed']}"
    hours = f"{probation['healthy_hours']:.1f}/{probation['healthy_hours_needed']:g}"
    return f"{films} films or {hours} hours · 播放 {films} 次，或正常运行 {hours} 小时"


def _play(media: Media) -> str:
    choices = "".join(
        f'<p><label>{label}<br><select name="{field}">{_options(paths)}</select></label></p>'
        for label, field, paths in (("Photo · 照片", "photo", media.photos), ("Voice · 语音", "voice", media.voices))
    )
    return f'<form method="post" action="/play">{choices}<button>Play · 播放</button></form>'


def _options(paths: Sequence[Path]) -> str:
    return "".join(f'<option value="{html.escape(str(path))}">{html.escape(path.name)}</option>' for path in paths)


def _film(playback: Playback) -> str:
    name = html.escape(Path(playback.out).name)
    if playback.complained:
        button = "<p><strong>Thank you, noted · 谢谢，已记录</strong></p>"
    else:
        button = (
            '<form method="post" action="/complain">'
            f'<input type="hidden" name="playback_id" value="{playback.playback_id}">'
            "<button>Lips don't match · 口型不对</button></form>"
        )
    return f"<p>Last film · 最近播放：{name} ({playback.seconds:.1f} s)</p>{button}"


_STYLE = """:root{color-scheme:light dark}body{font:1.25rem/1.6 system-ui,sans-serif;max-width:34rem;margin:3rem auto;
padding:0 1rem}dt{opacity:.7}dd{margin:0 0 1rem;overflow-wrap:anywhere}
button,select{font:inherit;padding:.5rem 1.25rem;min-height:44px;max-width:100%}"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The page's content security policy: its own style sheet and its own forms, nothing else, and no script at all."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{frame}</title>
<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="30;url=/">
<style>{style}</style>
</head><body><h1>{frame}</h1>{notice}<dl>{rows}</dl>{play}{film}</body></html>
"""
