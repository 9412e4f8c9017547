"""A repository of its own, frames and releases for each test.

Imports are within the fixtures: this file is read before Django's settings are there.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleet.models import FrameGroup
    from ota.models import Release
    from tests.ota.offline import File, Offline


@pytest.fixture(autouse=True)
def var(tmp_path: Path, settings: Any) -> Path:
    """State of its own: online keys and artifacts."""
    from ota import keys

    settings.FRAMEFLEET_VAR = tmp_path
    artifacts = {**settings.STORAGES["artifacts"], "OPTIONS": {"location": tmp_path / "artifacts"}}
    settings.STORAGES = {**settings.STORAGES, "artifacts": artifacts}
    keys.make_missing()
    return tmp_path


@pytest.fixture
def offline(db: None) -> "Offline":
    """An offline folder whose first documents the repository has accepted."""
    from ota import repository
    from tests.ota.offline import Offline

    folder = Offline()
    repository.accept_first(folder.first())
    return folder


@pytest.fixture
def base() -> "File":
    from tests.ota.offline import file
    from tests.ota.world import BASE

    return file("base/talking-portrait-1.0.bundle", BASE, "base_model")


@pytest.fixture
def release_1_0(offline: "Offline", base: "File") -> "Release":
    from tests.ota.world import push

    return push(offline.release("talking-portrait", "1.0", [base]))


@pytest.fixture
def release_1_1(offline: "Offline", base: "File", release_1_0: "Release") -> "Release":
    from tests.ota.offline import file
    from tests.ota.world import push

    adapter = file("lora/mandarin-1.1.adapter", b"adapter " * 1000, "lora_delta", base.ref.sha256)
    return push(offline.release("talking-portrait", "1.1", [adapter], [base.ref]))


@pytest.fixture
def release_1_2(offline: "Offline", base: "File", release_1_1: "Release") -> "Release":
    from tests.ota.offline import file
    from tests.ota.world import push

    adapter = file("lora/mandarin-1.2.adapter", b"adaptor " * 1000, "lora_delta", base.ref.sha256)
    return push(offline.release("talking-portrait", "1.2", [adapter], [base.ref]))


@pytest.fixture
def frames(db: None) -> Callable[..., list[str]]:
    from tests.ota.world import enrol

    return enrol


@pytest.fixture
def zh(db: None) -> "FrameGroup":
    from fleet.models import FrameGroup

    return FrameGroup.objects.create(name="zh", query="locale=zh")
