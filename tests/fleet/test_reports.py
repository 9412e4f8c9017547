"""What frames say about themselves: the newest counts, a late one never overwrites it."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fleet.models import Frame, HealthEvent, ReportedState
from fleet.services.reports import note_health, record_hello, record_hellos, record_reported, record_reports
from protocol.errors import Reason
from protocol.messages import Failure
from tests.fleet.factories import RELEASE, hello, make_frame, reported

pytestmark = pytest.mark.django_db

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_hello_says_that_the_frame_is_there_and_what_it_holds() -> None:
    make_frame()
    assert record_hello("frame-1", hello(desired_version=7), NOW)
    frame = Frame.objects.get()
    assert (frame.last_seen, frame.agent_version, frame.desired_version) == (NOW, "1.2.3", 7)


def test_hellos_of_strangers_are_not_taken() -> None:
    make_frame()
    assert record_hellos({"stranger": hello("stranger"), "frame-1": hello()}, NOW) == {"frame-1"}
    assert not record_hello("stranger", hello("stranger"), NOW)


def test_a_hello_does_not_rewrite_what_enrolment_said() -> None:
    make_frame(locale="zh")
    record_hello("frame-1", hello(), NOW)
    assert Frame.objects.get().locale == "zh"


def test_a_report_is_kept_with_its_failure_and_lip_errors() -> None:
    make_frame()
    failure = Failure(Reason.TRIAL_FAILED, "The trial \0 missed its limit.")
    assert record_reported("frame-1", reported(state="reverted", failure=failure), NOW)
    kept = ReportedState.objects.get()
    assert (kept.state, kept.release, kept.slot, kept.target) == ("reverted", RELEASE, "A", "")
    assert (kept.failure_reason, kept.failure_detail) == ("trial_failed", "The trial \ufffd missed its limit.")
    assert kept.lip_errors == [{"segment": "mandarin", "lip_mm": 0.34, "mean_pose_mm": 1.3, "limit_mm": 0.8}]
    assert kept.figures == {"step_p99_ms": 4.5, "playbacks": 1.0}
    frame = Frame.objects.get()
    assert (frame.last_seen, frame.desired_version, frame.reported) == (NOW, 3, kept)


@pytest.mark.parametrize("late", [3, 2, 0])
def test_a_report_that_is_not_newer_is_stale(late: int) -> None:
    make_frame()
    assert record_reported("frame-1", reported(sequence=3, state="trial"))
    assert not record_reported("frame-1", reported(sequence=late, state="downloading"))
    assert ReportedState.objects.get().state == "trial"


def test_a_later_report_of_a_download_counts_though_its_sequence_stands_still() -> None:
    make_frame()
    report = reported(sequence=3, state="downloading")
    later = msgspec.structs.replace(report, at=report.at + 1_000, figures={"fetched_bytes": 7.0})
    assert record_reported("frame-1", report)
    assert record_reported("frame-1", later)
    assert not record_reported("frame-1", report)
    assert ReportedState.objects.get().figures == {"fetched_bytes": 7.0}


def test_a_newer_report_replaces_the_older_one() -> None:
    make_frame()
    record_reported("frame-1", reported(sequence=3, failure=Failure(Reason.EXPIRED, "Too old.")))
    assert record_reported("frame-1", reported(sequence=4))
    assert ReportedState.objects.get().failure_reason == ""


def test_a_frame_that_lost_its_journal_begins_anew() -> None:
    make_frame()
    record_reported("frame-1", reported(sequence=90))
    assert record_reported("frame-1", reported(journal_id="2" * 32, sequence=1, state="idle"))
    assert ReportedState.objects.get().state == "idle"


def test_reports_of_strangers_are_not_taken() -> None:
    assert not record_reported("stranger", reported("stranger"))


def test_what_the_backend_notes_about_a_frame_cannot_flood() -> None:
    make_frame()
    assert note_health("frame-1", "wrong_identity", "Why.\0", NOW)
    assert not note_health("frame-1", "wrong_identity", "Why again.", NOW + timedelta(seconds=59))
    assert note_health("frame-1", "other", "Something else.", NOW)
    assert note_health("frame-1", "wrong_identity", "Why later.", NOW + timedelta(seconds=61))
    assert HealthEvent.objects.count() == 3
    assert not note_health("stranger", "wrong_identity", "Who?", NOW)


def test_of_many_reports_at_once_each_frames_newest_is_kept() -> None:
    for frame in ("frame-1", "frame-2"):
        make_frame(frame)
    said = [
        ("frame-1", reported(sequence=3, state="trial")),
        ("frame-2", reported("frame-2", sequence=1, state="staged")),
        ("stranger", reported("stranger")),
        ("frame-1", reported(sequence=2, state="downloading")),
        ("frame-1", reported(sequence=4, state="committed")),
    ]
    assert record_reports(said, NOW) == [said[0], said[1], said[4]], "neither strangers nor what is stale"
    kept = dict(ReportedState.objects.values_list("frame_id", "state"))
    assert kept == {"frame-1": "committed", "frame-2": "staged"}
    assert set(Frame.objects.values_list("last_seen", flat=True)) == {NOW}
