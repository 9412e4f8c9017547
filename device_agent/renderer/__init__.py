"""Rendering in a process of its own: a crash or a hang there costs one playback, never the agent.

``Renderer`` is the agent's side and imports nothing heavy; ``worker`` is the child, which holds the whole pipeline.
"""

from device_agent.renderer.handle import Renderer, RendererOptions
from device_agent.renderer.messages import Measure, Measured, Play, Played
from device_agent.renderer.process import RendererDied, RendererRefused

__all__ = [
    "Measure",
    "Measured",
    "Play",
    "Played",
    "Renderer",
    "RendererDied",
    "RendererOptions",
    "RendererRefused",
]
