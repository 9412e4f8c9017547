"""Speech with known phoneme times, from the system's espeak-ng (GPL-3: a training tool, never shipped to frames)."""

import ctypes
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from device_agent.pipeline.features import SAMPLE_RATE, FloatArray

_LIBRARY = "libespeak-ng.so.1"
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA, _DO_NOT_EXIT = 1, 2, 0x8000
_CHARS_UTF8, _END_PAUSE = 1, 0x1000
_RATE, _PITCH = 1, 3
_EVENT_LIST_END, _EVENT_END, _EVENT_PHONEME = 0, 5, 7


class SpeechError(RuntimeError):
    """espeak-ng is missing or refused; the message is one sentence."""


@dataclass(frozen=True)
class Phoneme:
    """One sound, as IPA ("" is a pause), from `start` to `end` in seconds."""

    ipa: str
    start: float
    end: float


@dataclass(frozen=True)
class Utterance:
    """Mono 16 kHz float32 samples in [-1, 1] and the phonemes in them."""

    samples: FloatArray
    phonemes: tuple[Phoneme, ...]

    @property
    def seconds(self) -> float:
        return self.samples.size / SAMPLE_RATE


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Speaker:
    """espeak-ng, loaded once per process (the library keeps global state)."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise SpeechError("espeak-ng is missing; install the package libespeak-ng1 and espeak-ng-data.") from error
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DO_NOT_EXIT
        self._rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, options))
        if self._rate <= 0:
            raise SpeechError("espeak-ng did not start; install the package espeak-ng-data.")
        self._pieces: list[bytes] = []
        self._marks: list[tuple[int, str | None]] = []
        # Kept on the object: the library calls it as long as the process lives.
        self._callback = _Callback(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: str, words_per_minute: int, pitch: int) -> Utterance:
        """Say a text. `voice` is "en", "fr", "cmn-latn-pinyin", each with an optional variant such as "+m3"."""
        self._pieces, self._marks = [], []
        library = self._library
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SpeechError(f"espeak-ng has no voice {voice}.")
        library.espeak_SetParameter(_RATE, words_per_minute, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        content = text.encode()
        flags = _CHARS_UTF8 | _END_PAUSE
        if library.espeak_Synth(content, len(content) + 1, 0, 1, 0, flags, None, None) != 0:
            raise SpeechError("espeak-ng refused a text.")
        library.espeak_Synchronize()
        native = np.frombuffer(b"".join(self._pieces), dtype=np.int16).astype(np.float32) / 32768.0
        return Utterance(_resample(native, self._rate, SAMPLE_RATE), _phonemes(self._marks))

    def _collect(
        self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type != _EVENT_LIST_END:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                raw = ctypes.string_at(ctypes.addressof(event) + _Event.id.offset, 8)
                name = raw.split(b"\0", 1)[0].decode("utf-8", "ignore")
                self._marks.append((event.audio_position, name))
            elif event.type == _EVENT_END:
                self._marks.append((event.audio_position, None))
            index += 1
        return 0


def _phonemes(marks: list[tuple[int, str | None]]) -> tuple[Phoneme, ...]:
    phonemes: list[Phoneme] = []
    for (start, name), (end, _) in pairwise(marks):
        if name is not None and end > start:
            phonemes.append(Phoneme(name, start / 1000.0, end / 1000.0))
    return tuple(phonemes)


def _resample(samples: FloatArray, source: int, target: int) -> FloatArray:
    """Change the rate by cutting the spectrum: exact for a clip that starts and ends in silence."""
    length = round(samples.size * target / source)
    if not length:
        return np.zeros(0, dtype=np.float32)
    spectrum = np.fft.rfft(samples.astype(np.float64))
    kept = np.zeros(length // 2 + 1, dtype=np.complex128)
    count = min(kept.size, spectrum.size)
    kept[:count] = spectrum[:count]
    return (np.fft.irfft(kept, length) * (target / source)).astype(np.float32)
