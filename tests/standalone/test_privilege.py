"""How root gives itself up."""

import os
from pathlib import Path

import pytest

from standalone.postgres import find_binaries
from standalone.privilege import choose, hand_over, ways_to_drop
from standalone.processes import ServiceError
from tests.services import require


def test_an_ordinary_user_has_nothing_to_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert ways_to_drop(None) == ["none"]


def test_root_prefers_a_namespace_and_goes_on_as_the_folders_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert ways_to_drop(None)[0] == "namespace"
    assert ways_to_drop(0)[0] == "namespace"
    assert ways_to_drop(54321) == ["user:54321:54321", "user:54321:54321:reach"]


def test_a_program_that_runs_in_no_way_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "postgres"
    broken.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(ServiceError, match=r"postgres cannot run here .*no such luck.*start framefleet as an ordinary"):
        choose(tmp_path / "data", broken)


def test_a_way_is_found_on_this_machine(tmp_path: Path) -> None:
    require(find_binaries)
    assert choose(tmp_path / "data", find_binaries() / "postgres") in ways_to_drop(None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files over")
def test_a_folder_is_handed_over_with_all_in_it_but_not_what_links_point_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    folder = tmp_path / "data"
    (folder / "base").mkdir(parents=True)
    (folder / "base" / "1").write_text("x")
    (folder / "link").symlink_to(outside)
    hand_over(folder, "user:65534:65534")
    assert {(folder / name).lstat().st_uid for name in ("", "base", "base/1", "link")} == {65534}
    assert outside.stat().st_uid == 0
