"""Adapters: LoRA deltas (low-rank adaptation) as files, and the checks before one is used."""

from device_agent.adapters.codec import MAX_ADAPTER_BYTES, Adapter, load, pack, rebind
from device_agent.adapters.errors import AdapterError, WrongBaseModel

__all__ = ["MAX_ADAPTER_BYTES", "Adapter", "AdapterError", "WrongBaseModel", "load", "pack", "rebind"]
