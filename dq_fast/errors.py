"""The errors that tell a user what to do."""

from __future__ import annotations


class InputError(ValueError):
    """A mistake in what the caller gave: names the argument, what was expected, and what came.

    The command line prints it as one line and exits with status 2.
    """


class InputTypeError(InputError, TypeError):
    """An InputError about what kind of thing came, for callers that tell TypeError from ValueError."""


class BadImageError(InputError):
    """An image that cannot be read; the run goes on without it unless there are too many.

    Attributes:
        id: stable id of the sample.
        reason: one line, for people.
    """

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(f"image {id!r} cannot be read: {reason}")
        self.id = id
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadImageError], tuple[str, str]]:
        return type(self), (self.id, self.reason)


def missing_extra(package: str, extra: str, purpose: str) -> InputError:
    """The error for an optional package that is not installed."""
    return InputError(f"{purpose} needs the package {package}; install it with: pip install 'dq_fast[{extra}]'")
