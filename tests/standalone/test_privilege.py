"""How root gives itself up."""

import os
import pwd
from pathlib import Path

import pytest

from standalone.postgres import find_binaries
from standalone.privilege import choose, hand_over, ways_to_drop
from standalone.processes import ServiceError
from tests.services import require

NOBODY = pwd.getpwnam("nobody")


def test_an_ordinary_user_has_nothing_to_drop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    assert ways_to_drop(tmp_path / "data", tmp_path / "postgres") == ["none"]


def test_a_user_without_a_name_gets_one_in_a_namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    ways = ways_to_drop(tmp_path / "data", tmp_path / "postgres")
    assert ways == [f"namespace:{NOBODY.pw_uid}", "none"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has anything to drop")
def test_root_prefers_a_namespace_in_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    ways = ways_to_drop(tmp_path / "data", tmp_path / "postgres")
    assert ways[0] == f"namespace:{NOBODY.pw_uid}"
    assert ways[-1].endswith(":reach")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files over")
def test_root_in_somebodys_checkout_goes_on_as_that_person(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY.pw_uid, NOBODY.pw_gid)
    ways = ways_to_drop(tmp_path / "data", tmp_path / "postgres")
    assert ways[:2] == [f"user:{NOBODY.pw_uid}:{NOBODY.pw_gid}", f"namespace:{NOBODY.pw_uid}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files over")
def test_root_goes_on_as_the_user_whose_data_folder_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 54321, 54321)
    ways = ways_to_drop(tmp_path / "data", tmp_path / "postgres")
    assert ways == ["user:54321:54321", "user:54321:54321:reach"]


def test_a_program_that_runs_in_no_way_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "postgres"
    broken.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(ServiceError, match=r"postgres cannot run here .*no such luck.*start framefleet as an ordinary"):
        choose(tmp_path / "data", broken)


def test_a_way_is_found_on_this_machine(tmp_path: Path) -> None:
    require(find_binaries)
    assert choose(tmp_path / "data", find_binaries() / "postgres") in ways_to_drop(
        tmp_path / "data", find_binaries() / "postgres"
    )


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
