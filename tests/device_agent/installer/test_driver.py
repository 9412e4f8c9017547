"""What cannot be saved has not happened, and yet it may be on the disk: nothing it names is thrown away."""

import errno
import os

import pytest

from device_agent.installer.driver import Installer
from device_agent.installer.events import Began, Fetched, RefusedRelease, Verified
from device_agent.installer.slots import Installed, Journal, Slot
from device_agent.storage.journal import MemoryJournal
from protocol.errors import Reason
from protocol.messages import Failure

RELEASE = "1" * 64
SLOT = Slot(
    release=RELEASE,
    artifacts=(Installed(kind="base_model", path="base/b", length=1, sha256="b" * 64),),
)


class Doubtful(MemoryJournal):
    """Writes the journal and says that it could not."""

    full = False

    def save(self, journal: Journal) -> None:
        super().save(journal)
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_files_of_a_journal_whose_save_failed_are_kept_until_one_succeeds() -> None:
    port, kept = Doubtful(), []
    installer = Installer(
        port, report=lambda: None, note=lambda failure: None, collect=lambda: kept.append(installer.files())
    )
    installer.apply(Began(1, RELEASE))
    installer.apply(Fetched())
    port.full = True
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        installer.apply(Verified(SLOT))
    assert (installer.journal.state, installer.journal.slot_a) == ("verifying", None), "then nothing moved"
    failed = RefusedRelease(Failure(reason=Reason.DISK_FULL, detail="The frame's disk is full."))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        installer.apply(failed)
    assert kept == [SLOT.files()], "room is made, but not of what the journal on the disk may name"
    port.full = False
    installer.apply(failed)
    assert installer.files() == frozenset()
