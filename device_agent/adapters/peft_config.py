"""PEFT's `adapter_config.json`: what of it can be packed, and everything else refused."""

import math
from typing import Any

import msgspec

from device_agent.adapters.errors import AdapterError
from device_agent.adapters.safetensors import shown

MAX_CONFIG_BYTES = 64 * 1024
MAX_RANK = 1024

# What changes the model beyond two factors per linear layer. Each must be absent, null, false or empty.
_PLAIN_ONLY = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
# Other ways to begin subtract something from the base model's weights, so the factors alone say too little.
_BEGINNINGS = frozenset({True, False, None, "gaussian", "eva", "orthogonal"})


class PeftConfig(msgspec.Struct, frozen=True):
    """What packing needs to know."""

    peft_type: str
    r: int
    lora_alpha: float
    target_modules: list[str] | str | None = None
    use_rslora: bool = False
    bias: str = "none"
    init_lora_weights: bool | str | None = True

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied with."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


def read_config(content: bytes) -> PeftConfig:
    """Read and check an `adapter_config.json`. Raises AdapterError with one sentence that says what to do."""
    if len(content) > MAX_CONFIG_BYTES:
        raise AdapterError(f"This adapter_config.json is larger than {MAX_CONFIG_BYTES} bytes.")
    try:
        raw = msgspec.json.decode(content, type=dict[str, Any])
        config = msgspec.convert(raw, PeftConfig)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdapterError(f"This adapter_config.json cannot be understood: {error}.") from error
    if config.peft_type != "LORA":
        raise AdapterError(f"This is a PEFT adapter of type {shown(config.peft_type)}; only LORA can be packed.")
    if config.bias != "none":
        raise AdapterError("This adapter trains biases, which cannot be packed; train with bias='none'.")
    for key in _PLAIN_ONLY:
        if raw.get(key):
            raise AdapterError(f"This adapter uses {key}, which cannot be packed; train plain LoRA without it.")
    if config.init_lora_weights not in _BEGINNINGS:
        raise AdapterError(
            f"This adapter began with {shown(str(config.init_lora_weights))}, which changes the base model too; save"
            " it converted to plain LoRA (path_initial_model_for_weight_conversion)."
        )
    if not 1 <= config.r <= MAX_RANK or not math.isfinite(config.lora_alpha):
        raise AdapterError(f"This adapter_config.json must have an r from 1 to {MAX_RANK} and a finite lora_alpha.")
    return config
