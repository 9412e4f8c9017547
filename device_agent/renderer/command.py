"""`render`: what the agent starts to draw films. Not for people: it speaks lines of JSON with whoever started it."""

import argparse

from device_agent.renderer.limits import be_first_to_go, die_with, leave_the_end_to_the_agent, take_at_most


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`; without a help text it is not listed."""
    parser = subparsers.add_parser("render")
    parser.add_argument("--runtime", choices=("auto", "onnx", "rknn"), default="auto")
    parser.add_argument("--core-mask", type=int, default=0, help="cores of the NPU, as RKNNLite's bits")
    parser.add_argument("--memory-mb", type=int, default=0, help="private memory it may take; 0 for no bound")
    parser.add_argument("--answers", type=int, required=True, help="the open file that answers go to")
    parser.add_argument("--parent", type=int, required=True, help="process id of the agent")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0 once standard input ends, 1 after work that broke it."""
    leave_the_end_to_the_agent()
    die_with(arguments.parent)
    be_first_to_go()
    if arguments.memory_mb:
        take_at_most(arguments.memory_mb)
    # Imported under these limits: it is what needs the memory.
    from device_agent.renderer.worker import serve

    return serve(arguments.answers, arguments.runtime, arguments.core_mask)
