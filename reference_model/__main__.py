"""`python -m reference_model build`: train, export, pack and measure the reference model."""

import argparse
import sys
from pathlib import Path

_HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference_model")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="train everything and write the bundle, the adapters and the report")
    build.add_argument("--out", type=Path, default=_HERE / "artifacts", help="where the trained files go")
    build.add_argument("--assets", type=Path, default=_HERE / "assets", help="where the demo's photo and voices go")
    build.add_argument("--peft", type=Path, default=Path("build/peft"), help="where adapters go the way PEFT has them")
    build.add_argument("--steps", type=int, default=1500, help="training steps of the base model")
    options = parser.parse_args(arguments)
    try:
        import torch  # noqa: F401
    except ImportError:
        print("Training needs torch; install the extra: pip install framefleet[train].", file=sys.stderr)
        return 2
    from reference_model.build import Folders, Settings
    from reference_model.build import build as run
    from reference_model.sources import SourceError
    from reference_model.speech import SpeechError

    try:
        run(Folders(options.out, options.assets, options.peft), Settings(base_steps=options.steps))
    except (SourceError, SpeechError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
