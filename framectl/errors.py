"""How a command says that it did not do what was asked."""


class CommandFailed(Exception):
    """One sentence for a person, saying what to do; the process then ends with exit code 1."""
