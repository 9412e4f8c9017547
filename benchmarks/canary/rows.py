"""The same rollouts through rows: what frames reported lies in a database, and the product reads, judges and keeps it.

``python -m benchmarks.canary.rows SEED RUNS LARGE`` starts a PostgreSQL of its own, plays RUNS rollouts in memory and
in it side by side, compares every verdict, then times one evaluation of LARGE frames over 28 days, once a line on its
input says that the machine is quiet. The last line is JSON.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.canary import staged
from benchmarks.canary.recorded import Rows, at
from benchmarks.canary.scenarios import BY_NAME, Scenario
from benchmarks.canary.staged import Ledger, Look
from benchmarks.canary.world import Effect, Model, World
from ota.domain.analysis.policy import STAGES, Policy
from standalone.postgres import Postgres

LOOK_H = 12
"""Looks of these rollouts, in memory and in rows alike."""
SCENARIOS = ("no_effect", "completion", "complaints", "power", "harder", "watched")
CLOSE = 1e-6
"""Relative difference of the evidence's logs, which come from sums in another order."""
SETTINGS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "512MB", "max_wal_size": "4GB"}
REPEATS = 3


def same_run(scenario: Scenario, seed: int, number: int) -> tuple[int, list[str]]:
    """Looks of one rollout, and what differed. ``number`` is above 0 and of no other rollout of the database."""
    from ota.services import evidence

    looks = 0
    kept: list[Rows] = []
    differences: list[str] = []

    def watch(look: Look) -> bool:
        nonlocal looks
        if not kept:
            kept.append(Rows(look.ledger, scenario.stages, number, scenario.holdback))
        rows = kept[0]
        rows.sync(look.stages)
        found = evidence.evaluate(rows.rollout.pk, at(look.ledger.now_h))
        looks += 1
        if found is None:
            differences.append(f"{scenario.name} {number}: no look at {look.ledger.now_h} h")
            return False
        ours = (look.verdict.decision.value, look.verdict.reason.value)
        total = found.log_total if found.log_total is not None else -math.inf
        if ours != (found.decision, found.reason) or not math.isclose(
            total, look.verdict.log_total, rel_tol=CLOSE, abs_tol=CLOSE
        ):
            differences.append(
                f"{scenario.name} {number} at {look.ledger.now_h} h: {ours} {look.verdict.log_total}, "
                f"from rows {(found.decision, found.reason)} {total}"
            )
        return False

    staged.run(
        scenario.model,
        scenario.effect,
        scenario.stages,
        Policy(),
        [seed, number],
        watch,
        LOOK_H,
        scenario.holdback,
    )
    return looks, differences


def large(frames: int, seed: int) -> dict[str, float]:
    """Seconds of one evaluation from rows, reading and keeping included: the best of several."""
    from django.db import connection

    from ota.services import evidence

    random = np.random.default_rng([seed, frames])
    shares = [stage.share for stage in STAGES]
    ledger = Ledger(World(Model(frames=frames), random), Effect(), shares, random.bytes(8).hex(), Policy())
    days = int(Policy().last_day)
    ledger.offer(shares[0])
    rows = Rows(ledger, STAGES, 0)
    opens = {24: 2, 120: 3}
    opened = 1
    begun = time.monotonic()
    for _ in range(days):
        if ledger.now_h in opens:
            opened = opens[ledger.now_h]
            ledger.offer(shares[opened - 1])
        ledger.advance(24)
        if ledger.now_h - 24 in (0, *opens):
            rows.sync(opened)
        else:
            rows.write_day((ledger.now_h - 1) // 24)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT count(*) FROM fleet_frameday WHERE frame_id LIKE 'r0-%'")
        (count,) = cursor.fetchone()
    print(f"{count} rows of {frames} frames in {time.monotonic() - begun:.0f} s", flush=True)
    sys.stdin.readline()
    took = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        if evidence.evaluate(rows.rollout.pk, at(ledger.now_h)) is None:
            raise RuntimeError("The large rollout was not looked at.")
        took.append(time.perf_counter() - begun)
    return {"evaluate_100k_db_s": round(min(took), 3), "evaluate_100k_db_rows": float(count)}


def main(seed: int, runs: int, frames: int) -> dict[str, object]:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    looks = 0
    differences: list[str] = []
    for number in range(runs):
        name = SCENARIOS[number % len(SCENARIOS)]
        some, found = same_run(BY_NAME[name], seed, number + 1)
        looks, differences = looks + some, differences + found
    for difference in differences[:20]:
        print(difference, flush=True)
    same = {"rows_runs": runs, "rows_looks": looks, "rows_differences": len(differences)}
    return {**same, **large(frames, seed)}


if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp(prefix="framefleet-canary-"))
    server = Postgres(folder / "postgres", settings=SETTINGS)
    server.start()
    try:
        (folder / "var").mkdir()
        os.environ.update(
            DJANGO_SETTINGS_MODULE="config.settings",
            FRAMEFLEET_SECRET_KEY="bench",  # noqa: S106
            FRAMEFLEET_VAR=str(folder / "var"),
            DATABASE_URL=server.url,
        )
        import django

        django.setup()
        print(json.dumps(main(*(int(argument) for argument in sys.argv[1:4]))), flush=True)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
