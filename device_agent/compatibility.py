"""Whether a release that both signatures name can run on this frame: hardware, agent, runtime, kinds, base model."""

from device_agent.installer.slots import Installed, Slot
from device_agent.ports import FrameIdentity, SignedTarget
from protocol.errors import Reason, Refused
from protocol.repository import RuntimeRange
from protocol.versions import older


def compatible(signed: list[SignedTarget], identity: FrameIdentity, kept: Installed | None = None) -> Slot:
    """The release (``signed[0]``) as a slot, if this frame may run it. Raises Refused. A release that brings no agent
    runs on ``kept``."""
    parts = signed[1:]
    brought = _agent_of(parts)
    runs_on = kept.version if kept is not None else identity.agent_version
    if brought is not None:
        runs_on = str(brought.manifest.version)
    for target in parts:
        manifest = target.manifest
        if manifest.hardware and identity.hardware not in manifest.hardware:
            raise Refused(
                Reason.INCOMPATIBLE,
                f"{target.path} runs on {', '.join(manifest.hardware)}, and this frame is {identity.hardware}.",
            )
        # An agent is installed by the one before it; everything else runs on the one that comes with the release.
        agent = identity.agent_version if target is brought else runs_on
        if older(agent, manifest.min_agent):
            whose = "this frame has" if brought is None or target is brought else "its release brings"
            raise Refused(Reason.INCOMPATIBLE, f"{target.path} needs agent {manifest.min_agent}; {whose} {agent}.")
        if manifest.runtimes and not any(_in_range(one, identity) for one in manifest.runtimes):
            here = ", ".join(f"{name} {version}" for name, version in identity.runtimes.items()) or "none"
            raise Refused(
                Reason.INCOMPATIBLE,
                f"{target.path} runs on {' or '.join(map(str, manifest.runtimes))}; the runtimes here: {here}.",
            )
        if manifest.kind not in ("base_model", "lora_delta", "asset", "agent"):
            raise Refused(
                Reason.INCOMPATIBLE, f"This agent cannot install {target.path}, a file of kind {manifest.kind}."
            )
    bases = [target for target in parts if target.manifest.kind == "base_model"]
    adapters = [target for target in parts if target.manifest.kind == "lora_delta"]
    if len(bases) != 1 or len(adapters) > 1:
        raise Refused(
            Reason.INCOMPATIBLE,
            f"A release has one base model and at most one adapter; this one has {len(bases)} and {len(adapters)}.",
        )
    for adapter in adapters:
        if adapter.manifest.base_model != bases[0].sha256:
            raise Refused(
                Reason.WRONG_BASE_MODEL,
                f"{adapter.path} was made for another base model than {bases[0].path}: train it for this one.",
            )
    return Slot(
        release=signed[0].sha256,
        artifacts=(*map(_installed, parts), *([kept] if brought is None and kept is not None else [])),
        security_epoch=signed[0].manifest.security_epoch,
    )


def _agent_of(parts: list[SignedTarget]) -> SignedTarget | None:
    agents = [target for target in parts if target.manifest.kind == "agent"]
    if len(agents) > 1:
        raise Refused(Reason.INCOMPATIBLE, f"A release has at most one agent; this one has {len(agents)}.")
    if agents and agents[0].manifest.version is None:
        raise Refused(Reason.INCOMPATIBLE, f"{agents[0].path} is an agent of no version: sign it with one.")
    return agents[0] if agents else None


def _installed(part: SignedTarget) -> Installed:
    return Installed(
        kind=part.manifest.kind,
        path=part.path,
        length=part.length,
        sha256=part.sha256,
        version=part.manifest.version or "",
    )


def _in_range(wanted: RuntimeRange, identity: FrameIdentity) -> bool:
    have = identity.runtimes.get(wanted.name)
    if have is None or older(have, wanted.at_least):
        return False
    return wanted.below is None or older(have, wanted.below)
