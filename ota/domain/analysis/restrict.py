"""Tables made of another: of some frames only, or with the holdback as the control.

    segment = restrict(table, member)                  the frames a release is for
    others  = restrict(table, ~member)                 everybody else
    watched = against_holdback(table, held, offered)   while everybody but the holdback has the release

Each is judged as any other table: the randomisation holds within every set of frames that was fixed before the offers.
A set that depends on what frames did afterwards is none of these, and nothing here can tell.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ota.domain.analysis.table import Arm, FloatArray, Frames, Sums, Table, take


def restrict(table: Table, member: NDArray[np.bool_]) -> Table:
    """The table of the frames for which ``member``, shape (frames,), is true; in their order, numbered anew."""
    if member.shape != (len(table.frames),) or member.dtype != np.bool_:
        raise ValueError("Say of every frame of the table whether it belongs: one true or false for each.")
    number = np.cumsum(member) - 1
    days = take(table.days, member[table.days.frame])
    return Table(_some(table.frames, member), replace(days, frame=number[days.frame]), table.now_h)


def against_holdback(table: Table, held: NDArray[np.bool_], offered_h: FloatArray) -> Table:
    """``held`` frames are the control, everybody offered the release is a canary, others are neither.

    ``offered_h`` is each frame's own offer in hours since the start, former controls included, infinity for none. A
    day's row of an offer must hold only what came after it, as in any table.
    """
    frames = table.frames
    if held.shape != (len(frames),) or offered_h.shape != (len(frames),):
        raise ValueError("Say of every frame of the table whether it is held back and when it was offered the release.")
    if bool(np.isfinite(offered_h[held]).any()):
        raise ValueError("A frame that was offered the release is not held back: leave it out of the holdback.")
    arm = np.where(held, int(Arm.CONTROL), np.where(np.isfinite(offered_h), int(Arm.CANARY), int(Arm.NEITHER)))
    return replace(table, frames=replace(frames, arm=arm.astype(np.int64), offered_h=offered_h))


def _some(frames: Frames, member: NDArray[np.bool_]) -> Frames:
    return Frames(
        hardware=frames.hardware[member],
        arm=frames.arm[member],
        offered_h=frames.offered_h[member],
        entered_h=frames.entered_h[member],
        left_h=frames.left_h[member],
        history={name: Sums(sums.total[member], sums.count[member]) for name, sums in frames.history.items()},
        history_complaints=frames.history_complaints[member],
        history_days=frames.history_days[member],
        first_h={name: first[member] for name, first in frames.first_h.items()},
    )
