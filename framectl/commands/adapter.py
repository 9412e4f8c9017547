"""``framectl adapter``: what an adapter is, pack one, what it does to lips."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from framectl.adapters.report import evaluation_data, evaluation_text, inspection_text, labels_of
from framectl.client import existing_file
from framectl.errors import CommandFailed
from framectl.files import write_new
from framectl.output import printable, show

MODEL_PARTS = ("numpy", "onnxruntime")

EVAL_HELP = """\
Plays every segment's golden clips with the base model and with each adapter, and says where lips get better or worse.
Exit status 1 means that at least one adapter misses a limit: a frame's trial would send it back. A frame also measures
time, memory and power, which this machine cannot tell.
"""


def add_parser(groups: Any, common: ArgumentParser) -> None:
    """``adapter inspect``, ``pack`` and ``eval``."""
    commands = groups.add_parser("adapter", help="adapters, before they become a release").add_subparsers(
        dest="action", required=True
    )
    inspect = commands.add_parser("inspect", parents=[common], help="what an adapter file holds")
    inspect.add_argument("adapter", type=existing_file, metavar="FILE")
    inspect.add_argument(
        "--bundle", type=existing_file, metavar="FILE", help="say whether it fits, and what it changes"
    )
    inspect.set_defaults(run=_inspect)
    pack = commands.add_parser("pack", parents=[common], help="make an adapter file from what PEFT saved")
    pack.add_argument("folder", type=Path, metavar="PEFT_FOLDER", help="what save_pretrained wrote")
    pack.add_argument("--bundle", type=existing_file, required=True, metavar="FILE", help="what it was trained for")
    pack.add_argument("--name", required=True)
    pack.add_argument("--segment", required=True, help="the segment it is meant to help, as in the golden clips")
    pack.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file; never overwritten")
    pack.set_defaults(run=_pack)
    evaluate = commands.add_parser(
        "eval",
        parents=[common],
        help="lip error on its own and on every other segment's clips",
        description=EVAL_HELP,
        formatter_class=RawDescriptionHelpFormatter,
    )
    evaluate.add_argument("adapters", type=existing_file, nargs="+", metavar="FILE")
    evaluate.add_argument("--bundle", type=existing_file, required=True, metavar="FILE")
    evaluate.add_argument(
        "--clips", type=Path, metavar="FOLDER", help="other clips instead: SEGMENT-1.wav with SEGMENT-1.motion, ..."
    )
    evaluate.add_argument(
        "--limit",
        type=segment_limit,
        action="append",
        default=[],
        metavar="SEGMENT=MM",
        help="another limit than the bundle's; SEGMENT=none for no limit",
    )
    evaluate.set_defaults(run=_eval)


def segment_limit(text: str) -> tuple[str, float | None]:
    """``base=0.45`` or ``base=none``. Raises ArgumentTypeError."""
    segment, _, value = text.rpartition("=")
    try:
        limit = None if value == "none" else float(value)
    except ValueError:
        limit = -1.0
    if not segment or not (limit is None or 0 < limit < 1000):
        raise ArgumentTypeError(f"{text!r} is no limit such as base=0.45 or base=none")
    return segment, limit


@contextmanager
def _model_parts() -> Iterator[None]:
    """Where they are installed; refusals of bundles, adapters and graphs become one sentence."""
    missing = [name for name in MODEL_PARTS if find_spec(name) is None]
    if missing:
        raise CommandFailed(
            f"This command needs the model parts ({', '.join(missing)} not found): pip install framefleet[model]."
        )
    from device_agent.adapters import AdapterError
    from device_agent.bundle import BundleError
    from device_agent.runtime import RuntimeFailure

    try:
        yield
    except (AdapterError, BundleError, RuntimeFailure) as error:
        raise CommandFailed(str(error)) from None


def _inspect(arguments: Namespace) -> None:
    with _model_parts():
        from framectl.adapters.inspect import inspect

        found = inspect(arguments.adapter, arguments.bundle)
    show(arguments, asdict(found), lambda: inspection_text(found))
    if found.refusal is not None:
        raise CommandFailed(found.refusal)


def _pack(arguments: Namespace) -> None:
    with _model_parts():
        from device_agent.adapters.peft import pack_peft, read_peft_folder
        from device_agent.bundle import Bundle
        from framectl.adapters.inspect import inspect

        weights, config = read_peft_folder(arguments.folder)
        with Bundle.open(arguments.bundle) as bundle:
            content = pack_peft(
                weights,
                config,
                base_model=bundle.sha256,
                signature=bundle.manifest.adapter,
                name=arguments.name,
                segment=arguments.segment,
            )
            segments = {clip.segment for clip in bundle.manifest.golden.clips}
        write_new(arguments.out, content, "the adapter")
        found = inspect(arguments.out, arguments.bundle)
    said = f"Packed {found.name} ({found.sha256[:12]}, {found.length} bytes) as {arguments.out}."
    if found.segment not in segments:
        said += f" This bundle has no golden clips of {found.segment}: its trial cannot tell whether it helps."
    show(arguments, {"file": str(arguments.out), **asdict(found)}, printable(said))


def _eval(arguments: Namespace) -> None:
    with _model_parts():
        from device_agent.bundle import Bundle
        from framectl.adapters.eval import evaluate

        with Bundle.open(arguments.bundle) as bundle:
            found = evaluate(bundle, arguments.adapters, arguments.clips, dict(arguments.limit))
    show(arguments, evaluation_data(found), lambda: evaluation_text(found))
    labels = labels_of(found.adapters)
    stopped = [label for label, adapter in zip(labels, found.adapters, strict=True) if not adapter.passed]
    if stopped:
        raise CommandFailed(f"Over a limit: {printable(', '.join(stopped))}; train again before releasing.")
