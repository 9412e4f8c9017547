"""A fleet with a past for each test."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ota.models import Release
    from tests.ota.evidence.fleet import Fleet


@pytest.fixture
def make_fleet(release_1_0: "Release") -> "Callable[..., Fleet]":
    from tests.ota.evidence.fleet import Fleet

    def make(count: int = 160, seed: int = 1) -> "Fleet":
        return Fleet(release_1_0, count, seed)

    return make


@pytest.fixture
def fleet(make_fleet: "Callable[..., Fleet]") -> "Fleet":
    return make_fleet()
