"""Power comes from the frame's own meter, or is a planning figure that says so."""

import time
from pathlib import Path

import pytest

from device_agent.power import CPU_W, NPU_W, Meter, PowerMeter, PowerModel
from device_agent.telemetry import power_sample


def device(hwmon: Path, number: int, **files: str | int) -> Path:
    folder = hwmon / f"hwmon{number}"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def test_a_meter_with_a_power_register_is_read_in_microwatts(tmp_path: Path) -> None:
    device(tmp_path, 0, name="nvme", temp1_input=40_000, power1_input=99_000_000)
    device(tmp_path, 10, name="ina226", power1_input=9_000_000)
    device(tmp_path, 2, name="ina226", power1_input=5_250_000, in1_input=12_000, curr1_input=1)
    meter = Meter.find(tmp_path)
    assert meter is not None
    assert meter.watts() == {"total": 5.25}


def test_a_meter_with_three_channels_gives_millivolts_times_milliamperes_and_shares(tmp_path: Path) -> None:
    device(
        tmp_path, 0, name="ina3221",
        in1_input=12_000, curr1_input=500, in1_label="VDD_IN",
        in2_input=800, curr2_input=3_000, in2_label="VDD_NPU",
        in3_input=900, curr3_input=1_000, in3_label="VDD_CPU_BIG",
    )  # fmt: skip
    meter = Meter.find(tmp_path)
    assert meter is not None
    assert meter.watts() == pytest.approx({"total": 6.0, "npu": 2.4, "cpu": 0.9})


@pytest.mark.parametrize(
    "files",
    [
        {"name": "coretemp", "power1_input": 1},
        {"name": "ina219"},
        {"name": "ina219", "power1_input": "no number"},
        {"name": "ina219", "in1_input": 5_000},
    ],
)
def test_what_is_no_meter_is_none(tmp_path: Path, files: dict[str, str | int]) -> None:
    device(tmp_path, 0, **files)
    assert Meter.find(tmp_path) is None
    assert Meter.find(tmp_path / "nowhere") is None


def test_the_mean_follows_the_meter_while_work_goes_on(tmp_path: Path) -> None:
    folder = device(tmp_path, 0, name="ina219", power1_input=2_000_000)
    with PowerMeter(tmp_path) as meter:
        time.sleep(0.5)
        (folder / "power1_input").write_text("6000000")
        time.sleep(0.5)
    figures = meter.figures
    assert not figures.estimated
    assert figures.window_s == pytest.approx(1.0, abs=0.2)
    assert 3.2 < figures.total_w < 4.8, "the mean of 2 W and 6 W, as far as 5 Hz can tell"
    assert figures.energy_j == pytest.approx(figures.total_w * figures.window_s)
    assert (figures.npu_w, figures.cpu_w) == (None, None)


def test_short_work_is_metered_at_both_ends(tmp_path: Path) -> None:
    device(tmp_path, 0, name="ina219", power1_input=3_000_000)
    with PowerMeter(tmp_path) as meter:
        time.sleep(0.01)
    assert meter.figures.total_w == pytest.approx(3.0)
    assert not meter.figures.estimated


def test_a_meter_that_falls_silent_is_not_believed(tmp_path: Path) -> None:
    folder = device(tmp_path, 0, name="ina219", power1_input=3_000_000)
    with PowerMeter(tmp_path) as meter:
        (folder / "power1_input").unlink()
        time.sleep(0.3)
    assert meter.figures.estimated


def test_without_a_meter_busy_time_is_priced_and_marked(tmp_path: Path) -> None:
    with PowerMeter(tmp_path / "nowhere", on_npu=lambda: True) as meter:
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
    figures = meter.figures
    assert figures.estimated
    assert figures.cpu_w is not None
    assert figures.npu_w is not None
    assert figures.cpu_w * figures.window_s == pytest.approx(0.2 * CPU_W, rel=0.3)
    assert figures.npu_w == pytest.approx(NPU_W)
    assert figures.total_w == pytest.approx(figures.cpu_w + figures.npu_w)
    assert PowerModel().figures(1.0, 1.0, 1.0).total_w == pytest.approx(4.8), "the planning figure for a film"


def test_no_figure_leaves_the_bounds_of_a_message() -> None:
    sample = power_sample(PowerModel().figures(0.0, 1e9, 1e9), at=1, release=None)
    assert sample.total_w == 1_000.0
    assert sample.estimated
