"""The options of ``framectl rollout start``, ``draft`` and ``preview``, and the plan that they make.

What an option says of all stages holds for those that leave somebody out; ``2:`` before it names one stage.
"""

import datetime as dt
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from framectl.client import Client, existing_file
from framectl.errors import CommandFailed
from framectl.signing import split_release

MAX_STAGES = 10
MAX_PLAN = 1_000_000
POLICIES = ("standard", "small-fleet")
GATES = ("committed", "manual", "evidence")
DEFAULT_SHARES = (5.0, 25.0, 100.0)

Numbered = tuple[int | None, dict[str, Any]]
"""A stage's number, None for all, and the fields said of it."""

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_NUMBERED = re.compile(r"(?:(\d{1,2}):)?(.+)", re.DOTALL)


def add_arguments(parser: ArgumentParser, *, required: bool = True) -> None:
    """What, to whom, and how. ``required``: whether release and group must be given."""
    parser.add_argument("--release", required=required, metavar='"NAME VERSION"')
    parser.add_argument("--group", required=required)
    parser.add_argument(
        "--with-base-model", action="store_true", help="let frames that lack the release's base model fetch it"
    )
    stages = parser.add_mutually_exclusive_group()
    stages.add_argument("--policy", choices=POLICIES, help="stages that wait for evidence")
    stages.add_argument("--stages", type=percentages, metavar="5,25,100", help="per cent; the default is 5,25,100")
    stages.add_argument("--plan", type=existing_file, metavar="FILE.json", help="a whole plan, as the REST API has it")
    parser.add_argument("--holdback", type=per_cent, metavar="5", help="per cent that get the release last")
    said: dict[str, Any] = {"dest": "said", "action": "append", "default": []}
    parser.add_argument("--gate", type=gate, metavar="[STAGE:]GATE", help=", ".join(GATES), **said)
    parser.add_argument("--dwell", type=dwell, metavar="[STAGE:]HOURS", help="before the next stage may open", **said)
    parser.add_argument(
        "--margin",
        type=margin,
        **said,
        metavar="[STAGE:]METRIC=VALUE",
        help="how much worse is acceptable: completion=0.03, power=0.1 (W), complaint=2 (times as many)",
    )
    parser.add_argument("--start-at", type=moment, metavar="2026-12-01T08:00+08:00")
    parser.add_argument(
        "--end-at",
        type=moment,
        metavar="2027-01-07T00:00+08:00",
        help="a release for a season: then frames return to their former one",
    )
    parser.add_argument(
        "--window", type=window, action="append", metavar="02:00-05:00", help="offers begin then, in a frame's own time"
    )
    parser.add_argument("--blackout", type=blackout, action="append", metavar="2026-12-24..2026-12-26")
    parser.add_argument("--per-minute", type=int, metavar="FRAMES", help="offered in a minute")
    parser.add_argument("--at-once", type=int, metavar="FRAMES", help="in flight at one time")
    parser.add_argument("--per-site", type=int, metavar="FRAMES", help="in flight at one site at one time")
    parser.add_argument("--jitter", type=int, metavar="S", help="each offer comes up to so many seconds later")
    parser.add_argument("--priority", type=int, metavar="N", help="the higher rollout gets a frame that two want")
    parser.add_argument("--retry", type=pair, action="append", metavar="REASON=N", help="offer again after a failure")
    parser.add_argument("--timeout-h", type=float, metavar="HOURS", help="a frame in flight for longer has failed")
    parser.add_argument("--target", metavar="QUERY", help="the segment that the release should help, such as locale=zh")
    parser.add_argument(
        "--benefit", type=pair, metavar="METRIC=VALUE", help="the next stage waits for this much better"
    )
    parser.add_argument("--pause-on-harm", action="store_true", help="a verdict ROLLBACK pauses instead")
    parser.add_argument(
        "--emergency", action="store_true", help="past hours, freezes and limits; somebody else approves"
    )
    parser.add_argument(
        "--supersede", type=ids, default=[], metavar="ID,ID", help="rollouts whose place this one takes"
    )


def body_of(arguments: Namespace, client: Client) -> dict[str, Any]:
    """What ``POST rollouts/`` and ``POST rollouts/preview/`` want."""
    name, version = split_release(arguments.release)
    body: dict[str, Any] = {
        "release": f"{name} {version}",
        "group": arguments.group,
        "base_model": arguments.with_base_model,
        "plan": _whole(arguments, client),
    }
    return body | ({"supersede": arguments.supersede} if arguments.supersede else {})


def _whole(arguments: Namespace, client: Client) -> dict[str, Any]:
    plan = _stages(arguments, client)
    if arguments.holdback is not None:
        plan["holdback"] = arguments.holdback / 100
    for number, fields in arguments.said:
        for stage in _stages_meant(plan, number):
            margins = {**stage.get("margins", {}), **fields.get("margins", {})}
            stage.update(fields | ({"margins": margins} if margins else {}))
    return plan | _rest(arguments)


def _stages(arguments: Namespace, client: Client) -> dict[str, Any]:
    if arguments.plan is not None:
        return _plan_file(arguments.plan)
    if arguments.policy is not None:
        found = client.get("rollouts/policies/")
        if arguments.policy not in found:
            raise CommandFailed(f"This server knows no policy {arguments.policy}: it has {', '.join(found)}.")
        return dict(found[arguments.policy])
    return {"stages": [{"share": value / 100} for value in arguments.stages or DEFAULT_SHARES]}


def _plan_file(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_PLAN:
        raise CommandFailed(f"{path} has more than {MAX_PLAN} bytes: it is no plan.")
    try:
        plan = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} is no JSON ({error}): write a plan as docs/gray-release.md shows one.") from None
    stages = plan.get("stages") if isinstance(plan, dict) else None
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise CommandFailed(f'{path} is no plan: write {{"stages": [{{"share": 0.1}}, ...]}}.')
    return dict(plan)


def _stages_meant(plan: dict[str, Any], number: int | None) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = plan["stages"]
    if number is None:
        # A stage that is everybody has nobody to be compared with, and nothing after it to wait.
        return [stage for stage in stages if stage.get("share") != 1.0]
    if not 1 <= number <= len(stages):
        raise CommandFailed(f"There is no stage {number}: the rollout has {len(stages)}.")
    return [stages[number - 1]]


def _rest(arguments: Namespace) -> dict[str, Any]:
    given: dict[str, Any] = {
        "start_at": arguments.start_at,
        "end_at": arguments.end_at,
        "windows": arguments.window,
        "blackout": arguments.blackout,
        "per_minute": arguments.per_minute,
        "at_once": arguments.at_once,
        "per_site": arguments.per_site,
        "jitter_s": arguments.jitter,
        "priority": arguments.priority,
        "timeout_h": arguments.timeout_h,
        "target": arguments.target,
        "guardrails": False if arguments.pause_on_harm else None,
        "emergency": arguments.emergency or None,
    }
    if arguments.retry:
        given["retries"] = {reason: int(times) for reason, times in arguments.retry}
    if arguments.benefit:
        metric, value = arguments.benefit
        given["benefit"] = {"metric": metric, "at_least": value}
    return {name: value for name, value in given.items() if value is not None}


# --- reading one option ----------------------------------------------------------------------------------------------


def percentages(text: str) -> tuple[float, ...]:
    """``5,25,100`` as ascending per cents that end at 100 or below. Raises ArgumentTypeError."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a list of per cents such as 5,25,100") from None
    ascending = all(before < after for before, after in pairwise(values))
    if not ascending or not all(0 < value <= 100 for value in values) or len(values) > MAX_STAGES:
        raise ArgumentTypeError(f"{text!r}: stages grow from above 0 to at most 100 per cent, {MAX_STAGES} at most")
    return values


def per_cent(text: str) -> float:
    """A holdback: 0 to 50."""
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no per cent such as 5") from None
    if not 0 <= value <= 50:
        raise ArgumentTypeError(f"{text!r}: a holdback is 0 to 50 per cent")
    return value


def gate(text: str) -> Numbered:
    """``2:manual`` or ``evidence``."""
    number, said = _numbered(text)
    if said not in GATES:
        raise ArgumentTypeError(f"there is no gate {said!r}: use {', '.join(GATES)}")
    return number, {"gate": said}


def dwell(text: str) -> Numbered:
    """``2:48`` or ``48``, in hours."""
    number, said = _numbered(text)
    try:
        return number, {"dwell_h": float(said)}
    except ValueError:
        raise ArgumentTypeError(f"{said!r} is no number of hours such as 48") from None


def margin(text: str) -> Numbered:
    """``2:completion=0.03`` or ``completion=3%``."""
    number, said = _numbered(text)
    metric, value = pair(said)
    return number, {"margins": {metric: value}}


def _numbered(text: str) -> tuple[int | None, str]:
    match = _NUMBERED.fullmatch(text)
    if match is None:
        raise ArgumentTypeError("give a value, or STAGE:VALUE")
    return (int(match[1]) if match[1] else None), match[2]


def pair(text: str) -> tuple[str, float]:
    """``name=0.03`` or ``name=3%``."""
    name, equals, said = text.partition("=")
    try:
        value = float(said.removesuffix("%")) / (100 if said.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if not equals or not name or value != value:
        raise ArgumentTypeError(f"{text!r}: write NAME=NUMBER, such as completion=0.03")
    return name, value


def window(text: str) -> dict[str, int]:
    """``02:00-05:00``, as minutes of the day."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} are no hours such as 02:00-05:00")
    opens_h, opens_m, closes_h, closes_m = (int(part) for part in match.groups())
    return {"opens": opens_h * 60 + opens_m, "closes": closes_h * 60 + closes_m}


def blackout(text: str) -> dict[str, str]:
    """``2026-12-24..2026-12-26``, or one day."""
    first, _, last = text.partition("..")
    try:
        days = [dt.date.fromisoformat(one) for one in (first, last or first)]
    except ValueError:
        raise ArgumentTypeError(f"{text!r} are no dates such as 2026-12-24..2026-12-26") from None
    return {"first": days[0].isoformat(), "last": days[1].isoformat()}


def ids(text: str) -> list[int]:
    """``7,8``"""
    try:
        return [int(one) for one in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no list of rollouts' numbers such as 7,8") from None


def moment(text: str) -> str:
    """``2026-12-01T08:00+08:00``"""
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time such as 2026-12-01T08:00+08:00") from None
    if at.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} has no time zone: write it as 2026-12-01T08:00+08:00, or with a Z")
    return at.isoformat()
