"""Which stages to give back so that a wanted one fits into the bundle's memory. Pure bookkeeping."""

from collections.abc import Collection

from device_agent.bundle.manifest import STAGE_ORDER, Manifest, StageName


def to_give_back(manifest: Manifest, loaded: Collection[StageName], wanted: StageName) -> list[StageName]:
    """The loaded stages to give back before `wanted` is loaded, as few as it takes.

    visual_prompt goes first, since its answer is kept and it runs once per photo; then the others from the last on. The
    manifest's check makes sure that all stages but visual_prompt fit at once, so this never goes back and forth within
    a playback.
    """
    room = manifest.memory_mb - manifest.stage(wanted).memory_mb
    taken = sum(manifest.stage(name).memory_mb for name in loaded)
    given: list[StageName] = []
    for name in ("visual_prompt", *reversed(STAGE_ORDER)):
        if taken <= room:
            break
        if name in loaded and name not in given:
            given.append(name)
            taken -= manifest.stage(name).memory_mb
    return given
