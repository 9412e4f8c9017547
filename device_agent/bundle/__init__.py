"""The bundle: the content of a `base_model` artifact, its manifest, and whether that is consistent."""

from device_agent.bundle.archive import MANIFEST, Bundle, BundleError, GoldenClip

__all__ = ["MANIFEST", "Bundle", "BundleError", "GoldenClip"]
