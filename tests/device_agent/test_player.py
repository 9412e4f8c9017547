"""The household's side: films are played with the active slot, one at a time, and the page answers nobody else."""

import errno
import http.client
import json
import os
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent import player as player_module
from device_agent.installer.slots import Installed, Slot
from device_agent.page import server as local_page
from device_agent.page.server import MAX_BODY, LocalPage
from device_agent.pipeline import canvas
from device_agent.player import FILMS, Player, PlayRefused
from device_agent.renderer import Renderer, RendererOptions
from device_agent.renderer.messages import SinkName
from device_agent.storage.store import FileStore
from protocol.messages import AnyEvent, Complaint, HealthEvent, PlaybackEvent, PowerSample
from tests.device_agent.fake_renderer import fake_renderer
from tests.device_agent.storage.test_store import put

MODEL = Path(__file__).parents[2] / "reference_model"
PHOTO = MODEL / "assets" / "portrait.png"
VOICE = MODEL / "assets" / "voice-zh.wav"


class House:
    """A player over a real store with the real model, without a connection."""

    def __init__(self, folder: Path, renderer: Renderer, sink: SinkName = "mp4") -> None:
        self.folder = folder
        self.store = FileStore(folder)
        data = (MODEL / "artifacts" / "talking-portrait-1.0.bundle").read_bytes()
        bundle = Installed(kind="base_model", path="base/b", length=len(data), sha256=put(self.store, data))
        self.slot: Slot | None = Slot(release=put(self.store, b"manifest"), artifacts=(bundle,))
        self.events: list[AnyEvent] = []
        self.quiet = threading.Lock()
        self.played: list[tuple[str, str | None]] = []
        self.player = Player(
            folder,
            self.store,
            lambda: self.slot,
            self.events.append,
            self.quiet,
            renderer,
            played=lambda release, crash: self.played.append((release, crash)),
            sink=sink,
        )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, Renderer())
    yield house
    house.player.close()


@pytest.fixture
def odd_house(tmp_path: Path) -> Iterator[Callable[[str, SinkName], House]]:
    """A house whose renderer runs the given script."""
    houses = []

    def make(body: str, sink: SinkName = "mp4") -> House:
        options = RendererOptions(beat_s=20.0, timeout_s=1.0)
        houses.append(House(tmp_path, Renderer(options, fake_renderer(tmp_path, body)), sink))
        return houses[-1]

    yield make
    for house in houses:
        house.player.close()


@pytest.mark.slow
def test_a_film_is_recorded_with_the_release_it_was_played_with(house: House) -> None:
    assert house.slot is not None
    playback = house.player.play(PHOTO, VOICE)
    assert Path(playback.out).is_file()
    assert playback.seconds == pytest.approx(4.7, abs=0.6)
    shown, power = house.events
    assert isinstance(shown, PlaybackEvent)
    assert isinstance(power, PowerSample)
    assert power.estimated, "there is no meter here"
    assert shown.completed
    assert shown.context == {"pose": "frontal", "loudness": "normal", "runtime": "cpu"}
    assert shown.watched_s == shown.video_s == playback.seconds
    assert shown.release == power.release == house.slot.release
    assert house.played == [(house.slot.release, None)]

    old, house.slot = house.slot.release, None
    house.player.complain(playback.playback_id)
    house.player.complain(playback.playback_id)
    complaints = [event for event in house.events if isinstance(event, Complaint)]
    assert [(event.playback_id, event.release) for event in complaints] == [(playback.playback_id, old)]
    again = Player(house.folder, house.store, lambda: None, house.events.append, house.quiet, Renderer())
    assert again.recent[0].complained


@pytest.mark.slow
def test_a_broken_voice_is_refused_and_ops_can_see_why(house: House, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    with pytest.raises(PlayRefused, match="not a sound file"):
        house.player.play(PHOTO, broken)
    (event,) = house.events
    assert isinstance(event, HealthEvent)
    assert event.kind == "playback_refused"
    assert "not a sound file" in event.detail
    assert house.played == [], "neither a film nor a crash"


@pytest.mark.parametrize(
    ("body", "sink", "watched_s", "says"),
    [
        ("next(films())\nwhile True: beat(50); time.sleep(0.02)", "mp4", 0.0, "not ready after 1 s"),
        ("next(films()); beat(50); os.kill(os.getpid(), signal.SIGKILL)", "mp4", 0.0, "SIGKILL"),
        ("next(films()); beat(50); os.kill(os.getpid(), signal.SIGKILL)", "raw", 2.0, "SIGKILL"),
        (
            "for film in films(): say({'type': 'refused', 'detail': 'Its graph is damaged.', 'blame': 'release'})",
            "mp4",
            0.0,
            "is damaged",
        ),
    ],
)
def test_a_film_that_breaks_off_is_not_watched_to_its_end(
    odd_house: Callable[[str, SinkName], House], body: str, sink: SinkName, watched_s: float, says: str
) -> None:
    house = odd_house(body, sink)
    with pytest.raises(PlayRefused, match=says) as caught:
        house.player.play(PHOTO, VOICE)
    assert not caught.value.busy
    film, told = house.events
    assert isinstance(film, PlaybackEvent)
    assert (film.completed, film.watched_s) == (False, watched_s)
    assert isinstance(told, HealthEvent)
    assert told.kind == "playback_failed"
    assert house.played == [(film.release, told.detail)]
    assert house.player.recent == []


@pytest.mark.parametrize(
    "body",
    [
        "for film in films(): say({'type': 'refused', 'detail': 'The disk is full.', 'blame': 'disk'})",
        "for film in films(): say({'type': 'refused', 'detail': 'PyAV is missing.', 'blame': 'frame'})",
    ],
)
def test_what_the_frame_lacks_is_no_crash_of_the_release(odd_house: Callable[[str], House], body: str) -> None:
    house = odd_house(body)
    with pytest.raises(PlayRefused):
        house.player.play(PHOTO, VOICE)
    assert [type(event) for event in house.events] == [HealthEvent]
    assert house.played == []


def test_a_film_that_the_agent_s_end_breaks_off_is_nobody_s_fault(odd_house: Callable[[str], House]) -> None:
    house = odd_house("next(films()); beat(3); time.sleep(60)")
    threading.Timer(0.3, house.player.close).start()
    with pytest.raises(PlayRefused) as caught:
        house.player.play(PHOTO, VOICE)
    assert caught.value.busy
    assert (house.events, house.played) == ([], [])


def test_a_killed_renderer_leaves_no_half_film(odd_house: Callable[[str], House]) -> None:
    house = odd_house(
        "film = next(films()); beat(); open(film['out'] + '.partial', 'w').close(); os.kill(os.getpid(), 9)"
    )
    (house.folder / "films" / "before.mp4.partial").write_bytes(b"x")
    with pytest.raises(PlayRefused):
        house.player.play(PHOTO, VOICE)
    assert [path.name for path in (house.folder / "films").iterdir()] == ["before.mp4.partial"]
    Player(house.folder, house.store, lambda: None, house.events.append, house.quiet, Renderer())
    assert not list((house.folder / "films").iterdir()), "a new start sweeps what a power cut left"


def test_a_fault_of_the_npu_is_told_once_for_a_release(odd_house: Callable[[str], House]) -> None:
    house = odd_house("for film in films(): say({'type': 'fault', 'detail': 'The NPU is gone.'}); say(PLAYED)")
    assert house.player.runtime is None
    for _ in range(3):
        house.player.play(PHOTO, VOICE)
    told = [event for event in house.events if isinstance(event, HealthEvent)]
    assert [(event.kind, event.detail) for event in told] == [("npu_fault", "The NPU is gone.")]
    assert [crash for _, crash in house.played] == [None] * 3
    assert house.player.runtime == {"uses": "CPU", "why": "The NPU is gone."}


def test_an_odd_name_is_refused(odd_house: Callable[[str], House]) -> None:
    house = odd_house("for film in films(): say(PLAYED)")
    with pytest.raises(PlayRefused, match="rename it"):
        house.player.play(Path("/\udcff.png"), VOICE)
    assert house.events == []


def test_a_blank_frame_plays_nothing_yet(house: House) -> None:
    house.slot = None
    with pytest.raises(PlayRefused, match="no release yet"):
        house.player.play(PHOTO, VOICE)


def test_a_film_waits_for_a_trial(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "QUIET_PATIENCE_S", 0.05)
    with house.quiet, pytest.raises(PlayRefused, match="being tried") as caught:
        house.player.play(PHOTO, VOICE)
    assert caught.value.busy


def test_a_second_has_as_many_frames_in_the_agent_as_in_the_pipeline() -> None:
    assert player_module.FPS == canvas.FPS


def test_old_films_go(house: House) -> None:
    for number in range(FILMS + 5):
        (house.folder / "films" / f"{number}.mp4").write_bytes(b"x")
    house.player._forget_films()
    assert len(list((house.folder / "films").glob("*.mp4"))) == FILMS


def test_a_full_disk_loses_neither_a_film_s_events_nor_a_complaint(
    odd_house: Callable[[str], House], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(player_module, "replace_file", full)
    house = odd_house("for film in films(): say(PLAYED)")
    playback = house.player.play(PHOTO, VOICE)
    assert house.played == [(playback.release, None)]
    house.player.complain(playback.playback_id)
    assert [type(event) for event in house.events] == [PlaybackEvent, PowerSample, Complaint]


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPage]:
    monkeypatch.setattr(local_page, "TURN_S", 0.02)  # closing it waits for one turn
    media = tmp_path / "media"
    media.mkdir()
    status = {"frame_id": "frame-1", "state": "committed", "release_name": "portrait <1.0>"}
    page = LocalPage(house.player, lambda: status, [media])
    yield page
    page.close()


def ask(
    page: LocalPage, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, answer.headers, data


def test_the_page_says_what_plays_in_both_languages(page: LocalPage) -> None:
    status, headers, body = ask(page, "GET", "/")
    assert status == 200
    assert headers["X-Frame-Options"] == "DENY"
    text = body.decode()
    assert "portrait &lt;1.0&gt;" in text
    assert "up to date · 已是最新" in text
    assert json.loads(ask(page, "GET", "/status")[2])["state"] == "committed"


def test_other_sites_cannot_use_the_page(page: LocalPage) -> None:
    assert ask(page, "GET", "/", Host="evil.example")[0] == 403
    assert ask(page, "POST", "/complain", b"{}", Origin="https://evil.example")[0] == 403
    assert ask(page, "GET", "/", Origin=f"http://127.0.0.1:{page.port}")[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/play", b"", 400),
        ("/play", b"[]", 400),
        ("/play", b'{"photo": 1, "voice": 2}', 400),
        ("/play", b"\xff" * 10, 400),
        ("/play", b"x" * (MAX_BODY + 1), 400),
        ("/play", b'{"photo": "relative.png", "voice": "relative.wav"}', 403),
        ("/play", b'{"photo": "/etc/passwd", "voice": "/etc/passwd"}', 403),
        ("/complain", b'{"playback_id": "00000000000000000000000000000000"}', 422),
        ("/nowhere", b"{}", 404),
    ],
)
def test_bad_requests_get_one_sentence(page: LocalPage, path: str, body: bytes, status: int) -> None:
    code, _, answer = ask(page, "POST", path, body)
    assert code == status
    assert json.loads(answer)["detail"].endswith(".")


def test_a_form_with_too_many_fields_gets_one_sentence(page: LocalPage) -> None:
    form = b"&".join(b"photo=x" for _ in range(9))
    status, _, body = ask(page, "POST", "/play", form, Content_Type="application/x-www-form-urlencoded")
    assert status == 400
    assert "more fields than the page" in body.decode()


def test_no_path_leads_out_of_the_folders(page: LocalPage, tmp_path: Path) -> None:
    media = tmp_path / "media"
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    (media / "link.png").symlink_to(secret)
    for photo in (media / ".." / "secret.png", media / "link.png", f"{media}-other/x.png", f"{media}/\0"):
        body = json.dumps({"photo": str(photo), "voice": str(photo)}).encode()
        assert ask(page, "POST", "/play", body)[0] == 403
    body = json.dumps({"photo": str(media / "none.png"), "voice": str(media / "none.wav")}).encode()
    assert ask(page, "POST", "/play", body)[0] == 422


def test_a_film_never_takes_the_place_of_a_photo(page: LocalPage, tmp_path: Path) -> None:
    photo, voice = tmp_path / "media" / "oma.png", tmp_path / "media" / "gruss.wav"
    for path in (photo, voice):
        path.write_bytes(b"x")
    body = json.dumps({"photo": str(photo), "voice": str(voice), "out": str(photo)}).encode()
    status, _, answer = ask(page, "POST", "/play", body)
    assert (status, json.loads(answer)["detail"]) == (422, "A film's file must end in .mp4 or .i420.")
    assert photo.read_bytes() == b"x"


def test_the_button_works_without_a_script(page: LocalPage, house: House) -> None:
    film: dict[str, Any] = {
        "playback_id": "ab" * 16, "at": 1, "release": "c" * 64, "out": "x.mp4",
        "seconds": 1.0, "first_frame_ms": 1.0, "fps": 30.0,
    }  # fmt: skip
    house.player._recent.append(player_module.Playback(**film))
    assert "Lips don't match · 口型不对" in ask(page, "GET", "/")[2].decode()
    form = urllib.parse.urlencode({"playback_id": "ab" * 16}).encode()
    status, headers, _ = ask(page, "POST", "/complain", form, Content_Type="application/x-www-form-urlencoded")
    assert (status, headers["Location"]) == (303, "/")
    (event,) = house.events
    assert isinstance(event, Complaint)
    assert "已记录" in ask(page, "GET", "/")[2].decode()


def test_the_household_chooses_among_photos_and_voices_and_is_told_why_nothing_plays(
    page: LocalPage, tmp_path: Path
) -> None:
    media = tmp_path / "media"
    assert "Play · 播放" not in ask(page, "GET", "/")[2].decode()
    for name in ("Oma.JPG", "<b>.png", "gruss.wav", "notes.txt"):
        (media / name).write_bytes(b"x")
    text = ask(page, "GET", "/")[2].decode()
    assert "Play · 播放" in text
    assert text.index("&lt;b&gt;.png</option>") < text.index("Oma.JPG</option>") < text.index("gruss.wav</option>")
    assert "notes.txt" not in text
    form = urllib.parse.urlencode({"photo": media / "Oma.JPG", "voice": media / "gruss.wav"}).encode()
    status, headers, body = ask(page, "POST", "/play", form, Content_Type="application/x-www-form-urlencoded")
    assert (status, headers["Content-Type"]) == (422, "text/html; charset=utf-8")
    assert '<p role="alert"><strong>' in body.decode()
    away = urllib.parse.urlencode({"photo": "/etc/passwd", "voice": "/etc/passwd"}).encode()
    assert ask(page, "POST", "/play", away, Content_Type="application/x-www-form-urlencoded")[0] == 403
