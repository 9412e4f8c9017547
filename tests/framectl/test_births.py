"""How frames come and leave by the command line: CSV in, claims and labels out, and what a person does later."""

import csv
import re
import stat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from framectl import labels
from framectl.__main__ import main

TOKEN = "abcdefghijklmnopqrstuvwx23"
HEADING = "frame_id,household,locale,hardware\n"


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    path = tmp_path / "claims.csv"
    path.write_text(
        f"frame_id,token,url\nwall-1,{TOKEN},https://birth.example:8444/claim/{TOKEN}\nwall-2,{TOKEN[::-1]},\n"
    )
    return path


def _decoded(png: bytes) -> str:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return cv2.QRCodeDetector().detectAndDecode(picture)[0]


def test_a_label_can_be_scanned_and_typed(claims: Path, tmp_path: Path) -> None:
    png, svg = tmp_path / "a.png", tmp_path / "a.svg"
    assert main(["frames", "label", "wall-1", "--claims", str(claims), "--png", str(png)]) == 0
    assert _decoded(png.read_bytes()) == f"https://birth.example:8444/claim/{TOKEN}"
    assert main(["frames", "label", "wall-2", "--claims", str(claims), "--svg", str(svg)]) == 0
    tree = ElementTree.fromstring(svg.read_bytes())  # noqa: S314  our own
    texts = [element.text or "" for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "wall-2"
    assert "".join(texts[1:]).replace(" ", "") == TOKEN[::-1]
    assert all(len(group) <= 5 for line in texts[1:] for group in line.split())
    assert _decoded(labels.png(labels.Claim("wall-2", TOKEN[::-1], ""))) == TOKEN[::-1]


def test_one_label_for_each_frame(claims: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "labels"
    assert main(["frames", "label", "--claims", str(claims), "--dir", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["wall-1.svg", "wall-2.svg"]
    assert capsys.readouterr().out == "Labels written: 2.\n"


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        (None, ["--svg", "x.svg"], "has several frames"),
        (None, ["nobody", "--dir", "d"], "has no claim of nobody"),
        ("a,b\n1,2\n", ["--dir", "d"], "has no columns"),
        ("frame_id,token,url\nwall-1,short,\n", ["--dir", "d"], "line 2: this is no claim token"),
        (f"frame_id,token,url\n../x,{TOKEN},\n", ["--dir", "d"], "is no frame id"),
        (f"frame_id,token,url\nwall-1,{TOKEN},https://x/\x1b[2J\n", ["--dir", "d"], "no address"),
    ],
)
def test_a_file_that_holds_no_claims_is_refused(
    claims: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        claims.write_text(text)
    assert main(["frames", "label", "--claims", str(claims), *arguments]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.django_db(transaction=True)
def test_from_a_csv_to_a_frame_on_the_wall_and_off_it_again(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    from fleet.models import Frame
    from fleet.services.certificates import good_certificates
    from fleet.services.claims import redeem
    from tests.fleet.births import claim_request, new_key

    settings.FRAMEFLEET_BIRTH_URL = "https://birth.example:8444"
    table, out = tmp_path / "frames.csv", tmp_path / "claims.csv"
    table.write_text(HEADING + "wall-1,home,zh\nWall,home,zh,rk3588\n")
    assert main(["frames", "import", str(table), "--claims", str(out)]) == 1
    said = capsys.readouterr().err
    assert "line 2: has 3 columns" in said
    assert "line 3: 'Wall'" in said
    assert not out.exists()

    table.write_text(HEADING + "wall-1,home,zh,rk3588\nwall-2,home,zh,rk3588\n")
    assert main(["frames", "import", str(table), "--claims", str(out), "--days", "30"]) == 0
    assert "Frames made known: 2." in capsys.readouterr().out
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    claim, _ = csv.DictReader(out.open())
    assert claim["url"] == f"https://birth.example:8444/claim/{claim['token']}"
    assert main(["frames", "import", str(table), "--claims", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err

    redeem(claim_request(claim["token"], new_key()))
    assert main(["frames", "--lifecycle", "awaited"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["FRAME", "wall-2"]
    assert main(["frames", "show", "wall-1"]) == 0
    assert good_certificates().get().serial_hex in capsys.readouterr().out

    assert main(["groups", "create", "homes"]) == 0
    assert main(["frames", "place", "--group", "homes", "--timezone", "Asia/Shanghai", "--site", "tower-1"]) == 0
    assert "Frames placed: 1." in capsys.readouterr().out  # a group means frames in service
    assert main(["frames", "show", "wall-1"]) == 0
    assert "Hangs in Asia/Shanghai, at tower-1" in capsys.readouterr().out
    assert main(["frames", "place", "wall-1", "wall-2", "--timezone", "Beijing"]) == 1
    assert "'Beijing' is no time zone" in capsys.readouterr().err
    assert main(["frames", "place", "--site", "tower-1"]) == 1
    assert "Name either frames or --group." in capsys.readouterr().err
    assert main(["segments"]) == 0
    assert capsys.readouterr().out.startswith("No segment had enough frames")
    assert main(["segments", "--days", "0"]) == 1
    assert "days is a whole number from 1 to 90" in capsys.readouterr().err

    assert main(["frames", "revoke", "wall-1", "--reason", "stolen"]) == 0
    assert "revoked now: 1" in capsys.readouterr().out
    assert main(["frames", "revoke", "wall-1", "--reason", "stolen"]) == 1
    assert "no certificate that could be revoked" in capsys.readouterr().err
    assert main(["frames", "replace", "wall-1", "--reason", "stolen"]) == 0
    typed, url = capsys.readouterr().out.splitlines()
    token = "".join(typed.rpartition(": ")[2].split())
    assert re.fullmatch(r"[a-z2-7]{26}", token)
    assert url.endswith(token)
    redeem(claim_request(token, new_key()))
    assert main(["frames", "retire", "wall-1", "--reason", "moved away"]) == 0
    assert main(["frames", "claim", "wall-1"]) == 1
    assert "is retired" in capsys.readouterr().err
    assert Frame.objects.get(pk="wall-1").lifecycle == Frame.Lifecycle.RETIRED
