"""Deciding a gray release with evidence. Pure: arrays in, a verdict out; no Django, no I/O, no clock.

    table = build(frames, days, now_h)                          what every frame did, day by day     table
    evidence = evaluate(table, stage, telemetry_age_h, policy)  one look, all of it as frozen data   evaluate
    verdict = judge(evidence, stage, in_stage_h, policy)        ROLLBACK, PROMOTE or HOLD, and why   verdict

Before and after a verdict:

    preview(learn(past, policy), stages, policy)                hours to expect, is the group enough preview, power
    rank(segments, complaints, playbacks, policy)               which households need a fix          triage
    benefits(restrict(table, member), policy)                   did the fix fix it                   benefit, restrict

Theory of operation
    1. The frame is the unit. Playbacks of one household resemble each other, complaints come in bursts; whoever counts
       playbacks as independent keeps finding harm in harmless releases.
    2. Each frame is compared with its own past first (``baseline``), then with controls on the same day and hardware
       (``estimator``). Its arm is its assignment, from the time of its offer, whatever it really runs: bricked and
       silent frames stay in.
    3. Harm and harmlessness are separate one-sided tests, both valid at every look (``eprocess``). "Not yet harmful" is
       not "harmless": between the two is HOLD.
    4. Rare events have no useful averages: their first occurrences are compared (``logrank``), which holds from the
       first event on. It cannot show harmlessness, and sees only what a household says first: so complaints have a
       second test, of how all of them split between the arms (``complaints``).
    5. Before anything is compared: are arms what they are called (``ratio``, ``exposure``), is telemetry fresh?
    6. Every number is in ``policy``, with its reason. Each module states its formula, symbols and sources.

What is asymptotic: measures put an estimated variance, and complaints an estimated dispersion, into an e-process that
is exact for a known one; minimum exposure and ``comparable_frames`` guard that. Logrank and the ratio check are exact.

What a caller has to know
    - Hours and days count from the rollout's start, by the server's order of things: a frame's clock may be days off.
    - A row holds the whole sums of a frame's day so far; on the day of its offer only what came after the offer. Clip
      single outliers before summing where single playbacks are at hand: here only a frame-day's mean is clipped.
    - Latency and frames per second come as natural logs.
    - A measure that a fleet cannot have (no power meter) is left out of the policy. One that is missing from the table
      although canaries play holds the rollout.
    - Whoever is neither exposed nor in the control reservoir is ``Arm.NEITHER``, and is unexposed to the logrank test.
    - In the last stage controls get the release: from then on the holdback is the control, in a table of its own.
    - "Dark" once is dark for good: keep what ``logrank.first_dark`` said and hand it in again.
    - Evidence is not accumulated here. Each look starts from the whole table, so late telemetry corrects itself;
      whoever acts on a ROLLBACK must remember it.

    - A member of a segment is one by what was known before the first offer: a set that depends on what frames did
      afterwards compares nothing (``restrict``).
    - Two tables of one rollout, a segment and everybody else, are two chances of a false rollback: average their totals
      before they are held against 1/alpha, which makes them one.
    - A benefit's interval holds at all times, triage's does not: it is one look at days that lie behind, and a segment
      that was chosen for its complaints complains less afterwards by itself. Only a control shows what a fix did.
    - A preview promises nothing. ``learn`` wants the last weeks as a table from day 0 in which nobody was offered
      anything; with what came before them as its history it knows how frames drift.

Not built yet: several metrics that move together in a preview, and weights of a policy tuned to a fleet's own past.
"""
