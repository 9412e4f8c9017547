"""How an adapter is refused."""


class AdapterError(ValueError):
    """The adapter cannot be used; the message is one sentence that says why."""


class WrongBaseModel(AdapterError):
    """The adapter was trained for another base model."""
