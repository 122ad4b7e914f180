"""What makes a class an estimator of scikit-learn, without needing scikit-learn.

The conventions: parameters are what ``__init__`` takes, stored unchanged under their names; `fit` returns the object;
what was learned has a trailing underscore. With `get_params` and `set_params`, `sklearn.base.clone`, pipelines and
searches work; the tags are asked for by scikit-learn only.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from dq_fast.errors import InputError

Self = TypeVar("Self", bound="Estimator")


class Estimator:
    """Parameters, text and tags of an estimator; learned attributes end with an underscore."""

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        parameters = inspect.signature(cls.__init__).parameters.values()
        return {p.name: p.default for p in parameters if p.name != "self"}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, by name. `deep` is there for scikit-learn: no parameter is an estimator itself."""
        return {name: getattr(self, name) for name in self._defaults()}

    def set_params(self: Self, **params: Any) -> Self:
        """Set parameters by name; they hold from the next `fit` on.

        Raises:
            InputError: there is no such parameter; none is set then.
        """
        names = self._defaults()
        for name in params:
            if name not in names:
                raise InputError(f"parameter must be one of {', '.join(names)}, got {name!r}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """The class with the parameters that are not the default ones."""
        changed = (
            f"{name}={getattr(self, name)!r}"
            for name, default in self._defaults().items()
            if not _same(getattr(self, name), default)
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return any(name.endswith("_") and not name.startswith("__") for name in vars(self))

    def __sklearn_tags__(self) -> Any:
        """For scikit-learn from 1.6 on: rows of finite numbers in, labels not required, same answer for same input."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False), input_tags=InputTags())

    def _more_tags(self) -> dict[str, Any]:
        """The same for scikit-learn before 1.6: its defaults."""
        return {}


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))
