"""From a DesiredState to a release on probation, as a program without I/O.

Both signatures are compared before a byte is fetched: the director says which files this frame should run, the image
repository (TUF) says which files are authentic, and only what both name with the same length and hash is installed.
Every refusal ends in the journal, in the report and as a HealthEvent; the release that plays is not touched.
"""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import cast

from tuf.api.metadata import Root

from device_agent.compatibility import compatible
from device_agent.failures import PASSING, failure_of
from device_agent.installer.driver import Installer
from device_agent.installer.events import (
    Began,
    Continued,
    Fetched,
    Kept,
    NotPassed,
    Passed,
    RefusedRelease,
    Settled,
    TrialBegan,
    Verified,
)
from device_agent.installer.machine import MAX_TRIAL_ATTEMPTS
from device_agent.installer.slots import Journal
from device_agent.ports import FrameIdentity, Ports, SignedTarget, TrialReport
from device_agent.transfer.download import fetch_missing
from device_agent.transfer.meter import Progress
from protocol.codec import decode
from protocol.errors import Reason, Refused
from protocol.limits import MAX_MESSAGE
from protocol.messages import DesiredState, TargetRef, TransferPolicy
from protocol.repository import ROLE_OF_KIND, ReleaseManifest, role_of
from protocol.sequences import Perform, Program, RetryPolicy, Sequence, refresh

log = logging.getLogger(__name__)

Believed = Callable[[Root], bool]
"""Whether that root of the director signs the DesiredState that is being carried out."""


class _Unbelieved(Exception):
    """The director's newest root names other keys than the one under which the DesiredState was believed."""


def converge(
    desired: DesiredState,
    believed: Believed,
    identity: FrameIdentity,
    ports: Ports,
    installer: Installer,
    retry: RetryPolicy,
    progress: Progress,
) -> Program[None]:
    """Make the frame run ``desired``. Never raises what came from outside: it ends in the journal. Where the director's
    keys turn out to have changed it just stops: no fault of the release, whose DesiredState comes again."""
    if desired.release is None:
        installer.apply(Kept(desired.version))
        return
    journal = installer.journal
    if journal.committed is not None and journal.committed.release == desired.release.sha256:
        installer.apply(Settled(desired.version))
        return
    if journal.probation is not None and journal.target == desired.release.sha256:
        installer.apply(Continued(desired.version))
        return
    installer.apply(Began(desired.version, desired.release.sha256))
    try:
        yield from _install(desired, desired.release, believed, identity, ports, installer, retry, progress)
    except _Unbelieved:
        log.warning("DesiredState %d is not signed by the director's newest keys: not installed.", desired.version)
    except Exception as error:
        failure = failure_of(error)
        # A trial that the frame could not run says nothing about the release; it is tried again, a few times.
        says_no = installer.journal.state == "trial" and failure.reason not in PASSING
        installer.apply(NotPassed(failure) if says_no else RefusedRelease(failure))


def _install(
    desired: DesiredState,
    release: TargetRef,
    believed: Believed,
    identity: FrameIdentity,
    ports: Ports,
    installer: Installer,
    retry: RetryPolicy,
    progress: Progress,
) -> Program[None]:
    targets = desired.targets
    policy = desired.transfer if isinstance(desired.transfer, TransferPolicy) else TransferPolicy(base_model=True)
    if installer.journal.trial_attempts >= MAX_TRIAL_ATTEMPTS:
        raise Refused(
            Reason.TRIAL_FAILED,
            f"The trial did not come to its end {installer.journal.trial_attempts} times: the release may bring the "
            "frame down, or the frame cannot run it, which its events before this one say.",
        )
    signed = yield from _agree(release, targets, believed, ports, retry)
    _require_epoch(signed[0], cast(int, (yield Perform(ports.epoch.floor))), installer.journal)
    keep = installer.files() | {target.sha256 for target in signed}
    yield from fetch_missing(signed[:1], signed, keep, ports, policy, progress, retry)
    if not (yield Perform(lambda: _are_whole(signed[:1], ports))):
        yield from fetch_missing(signed[:1], signed, keep, ports, policy, progress, retry)
    _check_manifest(ports.store.read(release.sha256), targets)
    slot = compatible(signed, identity, installer.journal.agent_for(release.sha256, identity.agent))
    _may_bring_base_model(signed, ports, policy)
    yield from fetch_missing(signed[1:], signed, keep, ports, policy, progress, retry)
    installer.apply(Fetched())
    if not (yield Perform(lambda: _are_whole(signed, ports))):
        # Files that had lain in the store rot; what was damaged is gone now, and is brought anew.
        _may_bring_base_model(signed, ports, policy)
        yield from fetch_missing(signed, signed, keep, ports, policy, progress, retry)
        yield Perform(lambda: _check(signed, ports))
    installer.apply(Verified(slot))
    installer.apply(TrialBegan())
    report = cast(TrialReport, (yield Perform(lambda: ports.trial.measure(slot))))
    if report.failure is not None:
        installer.apply(NotPassed(report.failure, report.lip_errors, report.figures))
    else:
        installer.apply(Passed(report.lip_errors, report.figures))


def _check(signed: Items[SignedTarget], ports: Ports) -> None:
    for target in signed:
        ports.store.check(target.sha256, target.length)


def _are_whole(signed: Items[SignedTarget], ports: Ports) -> bool:
    """Whether every file is what was signed; those that are not have been deleted."""
    damaged = 0
    for target in signed:
        try:
            ports.store.check(target.sha256, target.length)
        except Refused as refused:
            log.warning("%s: %s", target.path, refused.detail)
            damaged += 1
    return not damaged


def _agree(
    release: TargetRef, targets: list[TargetRef], believed: Believed, ports: Ports, retry: RetryPolicy
) -> Sequence[list[SignedTarget]]:
    """Refresh the frame's view of the repository and compare it with what the director named, manifest first."""
    wanted = [release, *targets]
    for ref in wanted:
        role_of(ref.path)
    if role_of(release.path) != "release" or len({ref.path for ref in wanted}) != len(wanted):
        raise Refused(
            Reason.BAD_MESSAGE, "The DesiredState names no release manifest or a file twice: assign the release again."
        )
    trust = ports.trust(ports.documents)
    yield from refresh(trust, sorted({role_of(ref.path) for ref in wanted}), retry)
    if not believed(trust.director_root):
        raise _Unbelieved
    signed = [trust.target(ref.path) for ref in wanted]
    for ref, target in zip(wanted, signed, strict=True):
        if (ref.length, ref.sha256) != (target.length, target.sha256):
            raise Refused(
                Reason.ROLES_DISAGREE,
                f"Director and image repository disagree about {ref.path}: push the release again, then assign it.",
            )
        if ROLE_OF_KIND[target.manifest.kind] != role_of(ref.path):
            raise Refused(
                Reason.ROLES_DISAGREE, f"{ref.path} is signed as {target.manifest.kind}, which its role may not sign."
            )
    return signed


def _may_bring_base_model(signed: Items[SignedTarget], ports: Ports, policy: TransferPolicy) -> None:
    """A delta is a few hundred kB and its base model hundreds of MB: nobody's line carries that unasked."""
    for target in signed:
        if target.manifest.kind == "base_model" and not policy.base_model and not ports.store.has(target.sha256):
            raise Refused(
                Reason.NEEDS_FULL_MODEL,
                f"This frame lacks {target.path} ({target.length / 1e6:.1f} MB), and the rollout does not allow it to "
                "fetch a base model: start one that does.",
            )


def _check_manifest(document: bytes, targets: list[TargetRef]) -> None:
    manifest = decode(document, ReleaseManifest, limit=MAX_MESSAGE)
    if set(manifest.targets) != set(targets):
        raise Refused(
            Reason.ROLES_DISAGREE,
            f"The DesiredState does not name the files that release {manifest.name} {manifest.version} lists.",
        )


def _require_epoch(release: SignedTarget, kept: int, journal: Journal) -> None:
    """Raises Refused(OLD_EPOCH). A cut between a commit and the raise leaves that behind; the slot knows it too."""
    floor = max(kept, journal.committed.security_epoch if journal.committed is not None else 0)
    if release.manifest.security_epoch < floor:
        raise Refused(
            Reason.OLD_EPOCH,
            f"{release.path} is of security epoch {release.manifest.security_epoch}; this frame accepts {floor} and "
            "newer: sign the release again with that epoch if it is safe.",
        )
