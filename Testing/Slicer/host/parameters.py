"""slicer.parameterNodeWrapper, as Slicer's developer guide documents it: typed access to a parameter node.

Handled are the types bool, int, float, str, pathlib.Path, enumerations, node classes and lists of these, the annotations
Choice, WithinRange, Minimum, Maximum, Default, Decimals and SingleStep, and the widgets of `connectors`. Anything else
raises.
"""

from __future__ import annotations

import enum
import typing
import weakref
from collections.abc import Callable, Iterable, MutableSequence
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
import vtk

from .connectors import Connector, Decimals, SingleStep, connector

PROPERTY = "SlicerParameterName"


class Validator:
    """What a value must fulfil; raises ValueError."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


class WithinRange(Validator):
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must not be less than {self.minimum}, is {value}")


class Maximum(Validator):
    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must not be greater than {self.maximum}, is {value}")


class Choice(Validator):
    def __init__(self, choices: Iterable[Any]) -> None:
        self.choices = list(choices)

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, is {value!r}")


class Default:
    """The value of a parameter that was never set."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


class _Scalar:
    """bool, int, float, str and paths: kept as text."""

    caches = True

    def __init__(self, kind: type, validators: list[Validator]) -> None:
        self.kind, self.validators = kind, validators
        self.default = {bool: False, int: 0, float: 0.0, str: "", Path: Path()}[kind]

    def isIn(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")
        if not isinstance(value, (int, float) if self.kind is float else self.kind):
            raise TypeError(f"Value must be of type {self.kind}, is {value!r}")
        for validator in self.validators:
            validator.validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        node.SetParameter(name, str(value))

    def read(self, node: Any, name: str) -> Any:
        text = node.GetParameter(name)
        return text == "True" if self.kind is bool else self.kind(text)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class _Enum:
    """A member of an enumeration: kept by its name."""

    caches = True

    def __init__(self, kind: type[enum.Enum]) -> None:
        self.kind, self.default = kind, next(iter(kind))

    def isIn(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def validate(self, value: Any) -> None:
        if not isinstance(value, self.kind):
            raise TypeError(f"Value must be of type {self.kind}, is {value!r}")

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        node.SetParameter(name, value.name)

    def read(self, node: Any, name: str) -> Any:
        key = node.GetParameter(name)
        if key not in self.kind.__members__:
            raise ValueError(f"Found {key!r} in parameter node but it is not a name in {self.kind!r}")
        return self.kind[key]

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class _Node:
    """A node of the scene: kept as a reference, beside an empty parameter."""

    default, caches = None, True

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def isIn(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"Value must be of type {self.kind}, is {value!r}")

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class _List:
    """A list: its length, and its elements by number."""

    def __init__(self, element: Any) -> None:
        self.element, self.caches = element, element.caches

    @property
    def default(self) -> list[Any]:
        return []

    def isIn(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def validate(self, values: Any) -> None:
        """Nothing: elements are validated where they are written."""

    def write(self, node: Any, name: str, values: Any) -> None:
        before = int(node.GetParameter(f"{name}.len")) if self.isIn(node, name) else 0
        old = list(self.read(node, name)) if before else []
        with slicer.util.NodeModify(node):
            try:
                for index, value in enumerate(values):
                    self.element.write(node, f"{name}.{index}", value)
            except Exception:
                for index, value in enumerate(old):
                    self.element.write(node, f"{name}.{index}", value)
                raise
            node.SetParameter(f"{name}.len", str(len(values)))
            for index in range(len(values), before):
                self.element.remove(node, f"{name}.{index}")

    def read(self, node: Any, name: str) -> ObservedList:
        length = int(node.GetParameter(f"{name}.len")) if self.isIn(node, name) else 0
        return ObservedList(self, node, name, [self.element.read(node, f"{name}.{i}") for i in range(length)])


class ObservedList(MutableSequence):
    """A list of a parameter node; a change of the list is a change of the node."""

    def __init__(self, serializer: _List, node: Any, name: str, values: list[Any]) -> None:
        self._serializer, self._node, self._name, self._list = serializer, node, name, values

    def _save(self) -> None:
        self._serializer.write(self._node, self._name, self._list)

    def __getitem__(self, index: Any) -> Any:
        return self._list[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._list[index] = value
        self._save()

    def __delitem__(self, index: Any) -> None:
        del self._list[index]
        self._save()

    def __len__(self) -> int:
        return len(self._list)

    def insert(self, index: int, value: Any) -> None:
        self._list.insert(index, value)
        self._save()

    def __eq__(self, other: object) -> bool:
        return self._list == (other._list if isinstance(other, ObservedList) else other)

    def __repr__(self) -> str:
        return f"ObservedList({self._list})"


def _split(kind: Any) -> tuple[Any, list[Any]]:
    if typing.get_origin(kind) is typing.Annotated:
        inner, *annotations = typing.get_args(kind)
        return inner, annotations
    return kind, []


def _serializer(kind: Any) -> Any:
    inner, annotations = _split(kind)
    if inner in (bool, int, float, str, Path):
        return _Scalar(inner, [a for a in annotations if isinstance(a, Validator)])
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return _Enum(inner)
    if isinstance(inner, type) and issubclass(inner, slicer.vtkMRMLNode):
        return _Node(inner)
    if typing.get_origin(inner) is list:
        return _List(_serializer(typing.get_args(inner)[0]))
    raise TypeError(f"the host's parameterNodeWrapper does not handle the type {kind}")


class _Parameter:
    def __init__(self, name: str, kind: Any, given: Any) -> None:
        self.basename, self.kind, self.serializer = name, kind, _serializer(kind)
        stated = [a for a in _split(kind)[1] if isinstance(a, Default)]
        self.default = (
            given if given is not None else stated[0] if stated else Default(self.serializer.default)
        )

    def read(self, node: Any) -> Any:
        if not self.serializer.isIn(node, self.basename):
            self.serializer.write(node, self.basename, self.default.value)
        return self.serializer.read(node, self.basename)


class _Cached:
    """A parameter that its wrapper reads anew at every change of the node, for as long as somebody holds the wrapper."""

    def __init__(self, parameter: _Parameter, node: Any) -> None:
        self._parameter, self._node, self._writing = parameter, node, False
        self.value = parameter.read(node)
        weak = weakref.ref(self)

        def modified(*_: Any) -> None:
            cached = weak()
            if cached is not None and not cached._writing:
                cached.value = cached._parameter.read(cached._node)

        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, modified)

    def __del__(self) -> None:
        self._node.RemoveObserver(self._tag)

    def write(self, value: Any) -> None:
        self._writing = True
        try:
            with slicer.util.NodeModify(self._node):
                self._parameter.serializer.write(self._node, self._parameter.basename, value)
                self.value = self._parameter.read(self._node)
        finally:
            self._writing = False


class _Wrapped:
    """What every wrapped class can do."""

    allParameters: dict[str, _Parameter]

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, Any] = {}
        self._tags: dict[int, int] = {}
        self._next, self._updating = 0, False
        for parameter in self.allParameters.values():
            parameter.read(parameterNode)
        self._cached = {
            name: _Cached(parameter, parameterNode)
            for name, parameter in self.allParameters.items()
            if parameter.serializer.caches
        }

    def _parameter(self, name: str) -> _Parameter:
        if name not in self.allParameters:
            raise ValueError(
                f"Cannot find a parameter with the name {name}; there are {list(self.allParameters)}"
            )
        return self.allParameters[name]

    def getValue(self, name: str) -> Any:
        cached = self._cached.get(name)
        return self._parameter(name).read(self.parameterNode) if cached is None else cached.value

    def setValue(self, name: str, value: Any) -> None:
        parameter, cached = self._parameter(name), self._cached.get(name)
        if cached is None:
            parameter.serializer.write(self.parameterNode, name, value)
        else:
            cached.write(value)

    def default(self, name: str) -> Default:
        return self._parameter(name).default

    def dataType(self, name: str) -> Any:
        return self._parameter(name).kind

    def isCached(self, name: str) -> bool:
        self._parameter(name)
        return name in self._cached

    def connectGui(self, gui: Any) -> int:
        """Connect every widget that names its parameter, of a widget or of the result of childWidgetVariables."""
        import qt

        widgets = gui.findChildren(qt.QWidget) if isinstance(gui, qt.QWidget) else vars(gui).values()
        return self.connectParametersToGui({w.property(PROPERTY): w for w in widgets if w.property(PROPERTY)})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        connectors = {}
        for name, widget in mapping.items():
            inner, annotations = _split(self._parameter(name).kind)
            connectors[name] = (
                widget if isinstance(widget, Connector) else connector(widget, inner, annotations)
            )
        tag = self._next
        self._next += 1
        self._guis[tag] = connectors
        for name, made in connectors.items():
            made.write(self.getValue(name))
            made.connect(lambda name=name, made=made: self._from_gui(name, made))
        self._tags[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._to_gui())
        return tag

    def disconnectGui(self, tag: int | None) -> None:
        for made in self._guis.pop(tag, {}).values():
            made.disconnect()
        if tag in self._tags:
            self.RemoveObserver(self._tags.pop(tag))

    def _from_gui(self, name: str, made: Connector) -> None:
        if not self._updating:
            self.setValue(name, made.read())

    def _to_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for connectors in self._guis.values():
                for name, made in connectors.items():
                    made.write(self.getValue(name))
        finally:
            self._updating = False

    def StartModify(self) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self, state: Any) -> None:
        self.parameterNode.EndModify(state)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Class decorator: the class's annotated attributes become parameters of a parameter node."""
    if cls is None:
        return parameterNodeWrapper
    kinds = typing.get_type_hints(cls, include_extras=True)
    parameters = {}
    for name, kind in kinds.items():
        if hasattr(_Wrapped, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        parameters[name] = _Parameter(name, kind, Default(getattr(cls, name)) if hasattr(cls, name) else None)
    body = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    body["allParameters"], body["_is_parameter_node_wrapper"] = parameters, True
    for name in parameters:
        body[name] = property(
            lambda self, name=name: self.getValue(name),
            lambda self, value, name=name: self.setValue(name, value),
        )
    return type(cls.__name__, (_Wrapped, *(b for b in cls.__bases__ if b is not object)), body)


def isParameterNodeWrapper(thing: Any) -> bool:
    return getattr(thing, "_is_parameter_node_wrapper", False)


def modules() -> dict[str, ModuleType]:
    """The Python module of the name that Slicer gives it."""
    made = ModuleType("slicer.parameterNodeWrapper")
    for thing in (parameterNodeWrapper, isParameterNodeWrapper, Validator, WithinRange, Minimum, Maximum, Choice,
                  Default, Decimals, SingleStep, ObservedList):  # fmt: skip
        setattr(made, thing.__name__, thing)
    made.SlicerParameterNamePropertyName = PROPERTY
    return {made.__name__: made}
