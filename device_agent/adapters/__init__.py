"""Adapters: LoRA deltas (low-rank adaptation) as files, and the checks before one is used."""

from device_agent.adapters.codec import MAX_ADAPTER_BYTES, Adapter, AdapterError, WrongBaseModel, load, pack

__all__ = ["MAX_ADAPTER_BYTES", "Adapter", "AdapterError", "WrongBaseModel", "load", "pack"]
