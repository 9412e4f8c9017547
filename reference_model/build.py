"""From nothing to a bundle, adapters and a report of what was measured."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from device_agent import adapters
from device_agent.adapters.peft import CONFIG_FILE, WEIGHTS_FILE, pack_peft, write_peft
from device_agent.bundle import Bundle
from device_agent.bundle.manifest import FloatArray
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from reference_model import sources
from reference_model.baselines import ridge_error
from reference_model.cohorts import BASE_LANGUAGES, COHORTS, HIGH_VOICE, LIMITS_MM, MANDARIN, WHISPER, Cohort
from reference_model.corpus import Clip, Corpus, held_out_corpus, say, training_corpus
from reference_model.cost import HOW_COUNTED, gflop_per_step
from reference_model.export import export_onnx, motion_by_torch
from reference_model.measuring import Sound, golden_sounds, lip_error, resting_error
from reference_model.network import MotionNet
from reference_model.packing import BUNDLE_FILE, REPORT_FILE, GoldenSource, pack_bundle, wav_bytes
from reference_model.sentences import DEMO_EN, DEMO_ZH
from reference_model.shape import A_SHAPE, ADAPTER_SIGNATURE, B_SHAPE, parameter_count
from reference_model.speech import Speaker
from reference_model.training import Factors, Report, train_adapter, train_base

NAME = "talking-portrait 1.0"
BASE_MODEL = "base_model"
# Twice as many for the segment whose limit is tight.
_GOLDEN_CLIPS = {"base": 8, "mandarin": 4, "whisper": 4, "high_voice": 4}
_GOLDEN_STEPS = (50, 105)


@dataclass(frozen=True)
class Settings:
    """How much to train; the defaults give the committed artifacts."""

    base_seconds: float = 25 * 60
    cohort_seconds: float = 3 * 60
    base_steps: int = 1500
    adapter_steps: int = 250
    careless_steps: int = 500
    seed: int = 7


@dataclass(frozen=True)
class _Corpora:
    base: Corpus
    cohorts: dict[str, Corpus]
    """What is trained on, by the cohort's name."""
    held_out: dict[str, Corpus]
    """What is measured on, by segment."""


@dataclass(frozen=True)
class Folders:
    """Where the files go: trained files, the demo's photo and voices, adapters as PEFT folders."""

    artifacts: Path
    assets: Path
    peft: Path


def build(folders: Folders, settings: Settings) -> None:
    """Write the bundle, the adapters and the report. Raises SourceError or SpeechError."""
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {line}", flush=True)

    for folder in (folders.artifacts, folders.assets, folders.peft):
        folder.mkdir(parents=True, exist_ok=True)
    detector, mesh, portrait = sources.fetch(sources.FACE_DETECTOR, sources.FACE_MESH, sources.PORTRAIT)
    # What is said before changes a little how espeak-ng says what follows: new corpora are spoken last.
    speaker = Speaker()
    voices = {
        "voice-en.wav": say(speaker, "en", DEMO_EN),
        "voice-zh.wav": say(speaker, "zh", DEMO_ZH),
    }
    for file, clip in voices.items():
        (folders.assets / file).write_bytes(wav_bytes(clip.samples))
    (folders.assets / "portrait.png").write_bytes(portrait)
    corpora = _speak(speaker, settings)
    report(f"spoke {corpora.base.seconds:.0f} s of base speech and {len(corpora.cohorts)} cohorts")

    net = train_base(corpora.base, settings.base_steps, settings.seed, report)
    graph = export_onnx(net)
    mean_pose = np.concatenate([clip.targets for clip in corpora.base.clips]).mean(axis=0)
    content = pack_bundle(
        name=NAME,
        graph=graph,
        detector=detector,
        mesh=mesh,
        face_source=sources.FACE_SOURCE,
        face_licence=sources.FACE_LICENCE,
        mean_pose=mean_pose,
        golden=[clip for segment in _GOLDEN_CLIPS for clip in _golden(segment, corpora.held_out[segment])],
        portrait=portrait,
        limits_mm=LIMITS_MM,
    )
    bundle = Bundle.open(content)
    packed = {
        cohort: _adapter(cohort, _train(net, cohort, corpora, settings, report), bundle, folders.peft / cohort.name)
        for cohort in COHORTS
    }
    (folders.artifacts / BUNDLE_FILE).write_bytes(content)
    for cohort, adapter in packed.items():
        (folders.artifacts / cohort.file).write_bytes(adapter)
    loaded = {cohort: adapters.load(adapter, bundle.sha256, ADAPTER_SIGNATURE) for cohort, adapter in packed.items()}
    measured = {
        "name": NAME,
        "bundle_sha256": bundle.sha256,
        "adapters": {
            cohort.name: {
                "sha256": loaded[cohort].sha256,
                "segment": cohort.segment,
                "seconds": round(corpora.cohorts[cohort.name].seconds),
                "base_mixed_in": cohort.base_mixed_in,
            }
            for cohort in COHORTS
        },
        "parameters": parameter_count(),
        "gflop_per_frame": gflop_per_step(graph),
        "gflop_counted": HOW_COUNTED,
        "base_seconds": round(corpora.base.seconds),
        **_measure(bundle, list(loaded.values()), corpora, voices["voice-zh.wav"]),
        "graph_against_torch_mm": _parity(bundle, net, loaded[MANDARIN], corpora.held_out["mandarin"].clips[0]),
        "settings": asdict(settings),
    }
    (folders.artifacts / REPORT_FILE).write_text(json.dumps(measured, indent=2) + "\n")
    report(json.dumps(measured["lip_error_mm"]))


def _speak(speaker: Speaker, settings: Settings) -> _Corpora:
    seconds = settings.cohort_seconds
    base = training_corpus(speaker, BASE_LANGUAGES, settings.base_seconds, settings.seed)
    held_out = {"base": held_out_corpus(speaker, BASE_LANGUAGES)}
    spoken = {MANDARIN.languages: training_corpus(speaker, MANDARIN.languages, seconds, settings.seed + 1)}
    for cohort in (MANDARIN, HIGH_VOICE, WHISPER):
        held_out[cohort.segment] = held_out_corpus(speaker, cohort.languages, cohort.variant)
    cohorts: dict[str, Corpus] = {}
    for number, cohort in enumerate(COHORTS, start=settings.seed + 1):
        if cohort.segment not in held_out:
            held_out[cohort.segment] = held_out_corpus(speaker, cohort.languages, cohort.variant, cohort.microphone)
        # Both Mandarin adapters hear the same people: only what is mixed in makes the difference.
        cohorts[cohort.name] = spoken.get(cohort.languages) or training_corpus(
            speaker, cohort.languages, seconds, number, cohort.variant, cohort.microphone
        )
    return _Corpora(base, cohorts, held_out)


def _golden(segment: str, held_out: Corpus) -> list[GoldenSource]:
    shortest, longest = _GOLDEN_STEPS
    fitting = [clip for clip in held_out.clips if shortest <= len(clip.targets) <= longest]
    if len(fitting) < _GOLDEN_CLIPS[segment]:
        raise ValueError(f"Too few held-out sentences of {segment} have the length of a golden clip.")
    return [GoldenSource(segment, clip.samples, clip.targets) for clip in fitting[: _GOLDEN_CLIPS[segment]]]


def _train(net: MotionNet, cohort: Cohort, corpora: _Corpora, settings: Settings, report: Report) -> Factors:
    report(f"training the adapter {cohort.name}")
    mixed_in = _part(corpora.base, settings.cohort_seconds) if cohort.base_mixed_in else None
    steps = settings.adapter_steps if cohort.base_mixed_in else settings.careless_steps
    return train_adapter(net, corpora.cohorts[cohort.name], mixed_in, steps, settings.seed, report)


def _adapter(cohort: Cohort, factors: Factors, bundle: Bundle, folder: Path) -> bytes:
    """Write the adapter the way training frameworks do, and pack it the way everybody packs theirs."""
    weights, config = write_peft({"A_all": factors.a_all, "B_all": factors.b_all}, ADAPTER_SIGNATURE)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(weights)
    (folder / CONFIG_FILE).write_bytes(config)
    return pack_peft(
        weights,
        config,
        base_model=bundle.sha256,
        signature=ADAPTER_SIGNATURE,
        name=cohort.name,
        segment=cohort.segment,
    )


def _part(corpus: Corpus, seconds: float) -> Corpus:
    """The first clips of a corpus, at least this long together."""
    clips: list[Clip] = []
    for clip in corpus.clips:
        if Corpus(tuple(clips)).seconds >= seconds:
            break
        clips.append(clip)
    return Corpus(tuple(clips))


def _measure(
    bundle: Bundle, loaded: list[adapters.Adapter], corpora: _Corpora, demo: Clip
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Lip error in mm of everything on everything: whole held-out sets, and the golden clips among them."""
    mean_pose = np.array(bundle.manifest.motion.mean_pose, dtype=np.float32)
    held_out = {**corpora.held_out, "demo_voice_zh": Corpus((demo,))}
    tables: dict[str, dict[str, dict[str, float | None]]] = {"lip_error_mm": {}, "golden_mm": {}}
    with StageGraph(bundle) as graph:

        def row(sounds: list[Sound]) -> dict[str, float | None]:
            errors: dict[str, float | None] = {"mean_pose": resting_error(mean_pose, sounds)}
            for adapter in (None, *loaded):
                graph.set_adapter(adapter)
                errors[adapter.name if adapter else BASE_MODEL] = lip_error(graph, sounds)
            return errors

        for segment, corpus in held_out.items():
            sounds = [Sound(clip.samples, clip.targets) for clip in corpus.clips]
            tables["lip_error_mm"][segment] = {"ridge": round(ridge_error(corpora.base, corpus), 4), **row(sounds)}
        for segment, golden in golden_sounds(bundle).items():
            limit = bundle.manifest.golden.limits.lip_mm[segment]
            tables["golden_mm"][segment] = {"limit": limit, **row(list(golden))}
    return tables


def _parity(bundle: Bundle, net: MotionNet, adapter: adapters.Adapter, clip: Clip) -> dict[str, float]:
    """The largest difference between the exported steps and the trained sequence model, in mm."""
    zeros: tuple[FloatArray, FloatArray] = np.zeros(A_SHAPE, np.float32), np.zeros(B_SHAPE, np.float32)
    factors = np.array(adapter.tensors["A_all"]), np.array(adapter.tensors["B_all"])
    differences: dict[str, float] = {}
    with StageGraph(bundle) as graph:
        for label, used, (a_all, b_all) in ((BASE_MODEL, None, zeros), (adapter.name, adapter, factors)):
            graph.set_adapter(used)
            by_steps = motion_for(graph, clip.samples)
            by_sequence = motion_by_torch(net, clip.features, a_all, b_all)
            differences[label] = round(float(np.abs(by_steps[: len(by_sequence)] - by_sequence).max()), 6)
    return differences
