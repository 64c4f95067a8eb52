"""PySide6 objects in the style of PythonQt, which Slicer's Python has: properties are attributes, signals are strings.

    label.text = "Ready"                       # a property
    button.connect("clicked(bool)", onClicked) # a signal by its C++ signature
    button.clicked.connect(onClicked)

Every Qt object is seen through a wrapper, so that what PythonQt lacks is absent here too. PythonQt lets a misspelt
attribute or signal pass without a word; here reading, assigning or connecting one raises.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets

if sys.version_info < (3, 12):
    # PySide6 6.12 gives back a True or None that it does not own at every emit; before Python 3.12 that is counted.
    for constant in (True, False, None):
        ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 32

#: Classes whose objects are wrapped; others (sizes, icons, colours, ...) are values and pass as they are.
WRAPPED = (QtCore.QObject, QtWidgets.QLayoutItem)

_classes: dict[type, type] = {}
_wrappers: weakref.WeakValueDictionary[int, Wrapper] = weakref.WeakValueDictionary()
_connections: dict[int, list[tuple[str, Callable[..., Any], Any]]] = {}

#: What stands in place of a method or static method of Qt, by class and name: dialogs that would wait for a person.
replaced: dict[tuple[str, str], Callable[..., Any]] = {}


def _public(native: type, name: str) -> bool:
    """Whether C++ code of Slicer offers a method: all of Qt's, and of the host's own classes what they list."""
    for base in native.__mro__:
        if name in vars(base):
            return base.__module__.startswith("PySide6") or name in vars(base).get("API", ())
    return False


def _text(array: QtCore.QByteArray) -> str:
    return bytes(array.data()).decode()


class _Method:
    """A method of a Qt object: takes and gives wrapped objects."""

    def __init__(self, native: Any, name: str, owner: Any = None) -> None:
        self.native = native
        self._name, self._owner = name, owner

    def __call__(self, *args: Any, **named: Any) -> Any:
        if named:
            raise TypeError(f"{self._name}: methods of Qt take no named arguments in Slicer")
        return wrap(self.native(*unwrap(args)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Method) and (self._name, self._owner) == (other._name, other._owner)

    def __hash__(self) -> int:
        return hash((self._name, id(self._owner)))


class _Signal:
    """A signal of one object."""

    def __init__(self, owner: Wrapper, signature: str) -> None:
        self._owner, self._signature = owner, signature

    def connect(self, function: Callable[..., Any]) -> bool:
        return self._owner.connect(self._signature, function)

    def disconnect(self, function: Callable[..., Any]) -> bool:
        return self._owner.disconnect(self._signature, function)

    def emit(self, *args: Any) -> None:
        self._owner._signal(self._signature).emit(*unwrap(args))

    __call__ = emit


class _Meta(type):
    """Statics, enumerations and their values, which are read from the class."""

    def __getattr__(cls, name: str) -> Any:
        native = cls.__dict__.get("_native") or next(b._native for b in cls.__mro__ if "_native" in vars(b))
        for base in native.__mro__:
            if (base.__name__, name) in replaced:
                return replaced[base.__name__, name]
        if name.startswith("_") or not (_public(native, name) or hasattr(type(native), name)):
            found = getattr(native, name, None)  # unscoped values of enumerations live in no __dict__
            if found is None or (callable(found) and not isinstance(found, type)):
                raise AttributeError(f"{cls.__name__} has no attribute named '{name}'")
            return found
        found = getattr(native, name)
        if isinstance(found, type) or not callable(found):
            return found
        return _Method(found, f"{cls.__name__}.{name}", cls)


class Wrapper(metaclass=_Meta):
    """A Qt object as Slicer's Python sees it."""

    __slots__ = ("__weakref__", "_q")
    _native: type = QtCore.QObject

    def __init__(self, *args: Any) -> None:
        native = next(base.__dict__["_native"] for base in type(self).__mro__ if "_native" in base.__dict__)
        _adopt(self, native(*unwrap(args)))

    def _alive(self) -> Any:
        try:
            native = object.__getattribute__(self, "_q")
        except AttributeError:
            raise AttributeError(f"{type(self).__name__}.__init__ was not called") from None
        if not shiboken6.isValid(native):
            raise ValueError(f"a {type(self).__name__} is used after Qt deleted it")
        return native

    @staticmethod
    def _property(meta: QtCore.QMetaObject, name: str) -> int:
        """Index of a property; `name` means objectName where a class has no property of that name."""
        index = meta.indexOfProperty(name)
        return meta.indexOfProperty("objectName") if index < 0 and name == "name" else index

    def _signatures(self, name: str) -> list[str]:
        """Signatures of the signals of one name, the ones of Slicer's own classes as Slicer writes them."""
        native = self._alive()
        own = [
            s
            for base in type(native).__mro__
            for s in vars(base).get("SIGNALS", {})
            if s.split("(")[0] == name
        ]
        if own or not isinstance(native, QtCore.QObject):
            return own
        meta = native.metaObject()
        methods = (meta.method(i) for i in range(meta.methodCount()))
        return [
            _text(m.methodSignature())
            for m in methods
            if m.methodType() == QtCore.QMetaMethod.MethodType.Signal and _text(m.name()) == name
        ]

    def _signal(self, signature: str) -> Any:
        native = self._alive()
        normal = _text(QtCore.QMetaObject.normalizedSignature(signature))
        for base in type(native).__mro__:
            if normal in vars(base).get("SIGNALS", {}):
                return getattr(native, vars(base)["SIGNALS"][normal])
        name = normal.split("(")[0]
        if normal not in self._signatures(name):
            raise ValueError(f"{type(self).__name__} has no signal '{signature}'")
        signal = getattr(native, name)
        try:
            return signal[normal[len(name) + 1 : -1]] if normal[-2:] != "()" else signal
        except (IndexError, KeyError):
            return signal

    def connect(self, signal: str, receiver: Any, slot: str | None = None) -> bool:
        """connect("signal(arguments)", function), or with another object and the signature of its slot."""
        if slot is not None:
            receiver = getattr(receiver, slot.split("(")[0])
        if not callable(receiver):
            raise TypeError(f"'{signal}' is connected to {receiver!r}, which cannot be called")
        native = self._alive()
        bound = self._signal(signal)
        connection = bound.connect(receiver.native if isinstance(receiver, _Method) else _slot(receiver))
        key = shiboken6.getCppPointer(native)[0]
        if key not in _connections:
            native.destroyed.connect(lambda *_: _connections.pop(key, None))
        _connections.setdefault(key, []).append((signal.split("(")[0], receiver, connection))
        return True

    def disconnect(self, signal: str, receiver: Any = None, slot: str | None = None) -> bool:
        """Undo connect; False where there was no such connection."""
        self._signal(signal)
        if slot is not None:
            receiver = getattr(receiver, slot.split("(")[0])
        records = _connections.get(shiboken6.getCppPointer(self._alive())[0], [])
        gone = [r for r in records if r[0] == signal.split("(")[0] and receiver in (None, r[1])]
        for record in gone:
            QtCore.QObject.disconnect(record[2])
            records.remove(record)
        return bool(gone)

    def className(self) -> str:
        """Name of the C++ class."""
        return type(self._alive()).__name__

    def inherits(self, name: str) -> bool:
        """Whether the C++ class is or derives from one of that name."""
        return any(base.__name__ == name for base in type(self._alive()).__mro__)

    def delete(self) -> None:
        """Delete the C++ object at once."""
        shiboken6.delete(self._alive())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_q":
            raise AttributeError(name)
        native = self._alive()
        for base in type(native).__mro__:
            if (base.__name__, name) in replaced:
                return lambda *args, _f=replaced[base.__name__, name]: _f(self, *args)
        if isinstance(native, QtCore.QObject):
            meta = native.metaObject()
            index = self._property(meta, name)
            if index >= 0:
                return wrap(meta.property(index).read(native))
            signatures = self._signatures(name)
            if signatures:
                return _Signal(self, signatures[0])
        if _public(type(native), name) and not name.startswith("_"):
            found = getattr(native, name)
            return _Method(found, name, self) if callable(found) and not isinstance(found, type) else found
        if isinstance(native, QtCore.QObject):
            if name in map(_text, native.dynamicPropertyNames()):
                return wrap(native.property(name))
            if (
                name[:3] == "set"
                and meta.property(meta.indexOfProperty(name[3:4].lower() + name[4:])).isWritable()
            ):
                return _Method(partial(_set, self, name[3:4].lower() + name[4:]), name, self)
            for child in native.children():
                if child.objectName() == name:
                    return wrap(child)
        try:
            return getattr(type(self), name)  # values of enumerations
        except AttributeError:
            pass
        raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        native = self._alive()
        if isinstance(native, QtCore.QObject):
            meta = native.metaObject()
            index = self._property(meta, name)
            if index >= 0:
                self._write(native, meta.property(index), value)
                return
            if name in map(_text, native.dynamicPropertyNames()):
                native.setProperty(name, unwrap(value))
                return
        if "_native" not in vars(type(self)):  # a Python class that derives from a Qt class
            object.__setattr__(self, name, value)
            return
        raise AttributeError(f"'{name}' does not exist on {type(self).__name__}")

    def _write(self, native: Any, meta: QtCore.QMetaProperty, value: Any) -> None:
        if not meta.isWritable():
            raise AttributeError(f"Property '{meta.name()}' of {type(self).__name__} is not writable")
        value = unwrap(value)
        if hasattr(value, "item") and type(value).__module__ == "numpy":
            value = value.item()
        if isinstance(value, tuple):
            value = list(value)
        if value is None or not meta.write(native, value):
            raise AttributeError(
                f"Property '{meta.name()}' of type '{meta.typeName()}' of {type(self).__name__} "
                f"does not accept an object of type {type(value).__name__} ({value!r})"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({type(self).__name__} at: {id(self):#x})"


def _set(wrapper: Wrapper, name: str, value: Any) -> None:
    setattr(wrapper, name, value)


def _slot(function: Callable[..., Any]) -> Callable[..., Any]:
    """A receiver that hands on as many arguments of the signal as the function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return lambda *args: function(*wrap(args))
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return lambda *args: function(*wrap(args))
    count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return lambda *args: function(*wrap(args[:count]))


def _adopt(wrapper: Wrapper, native: Any) -> None:
    object.__setattr__(wrapper, "_q", native)
    _wrappers[shiboken6.getCppPointer(native)[0]] = wrapper


def wrapper_class(native: type) -> type:
    """The class whose objects wrap those of a PySide6 class (or of a class of the host derived from one)."""
    if native not in _classes:
        bases = [b for b in native.__bases__ if issubclass(b, WRAPPED)]
        parents = tuple(wrapper_class(b) for b in bases[:1]) or (Wrapper,)
        _classes[native] = _Meta(
            native.__name__, parents, {"__slots__": (), "_native": native, "__module__": "qt"}
        )
    return _classes[native]


def wrap(value: Any) -> Any:
    """A value that comes from Qt, as Slicer's Python sees it."""
    if isinstance(value, WRAPPED):
        known = _wrappers.get(shiboken6.getCppPointer(value)[0])
        if known is not None and shiboken6.isValid(known._q) and isinstance(value, type(known._q)):
            return known
        cls = wrapper_class(type(value))
        made = cls.__new__(cls)
        _adopt(made, value)
        return made
    if isinstance(value, (list, tuple)):
        return tuple(wrap(item) for item in value)
    return value


def unwrap(value: Any) -> Any:
    """A value that goes to Qt."""
    if isinstance(value, Wrapper):
        return value._alive()
    if isinstance(value, _Meta):
        return value._native
    if isinstance(value, _Method):
        return value.native
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(item) for item in value)
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    return value


def lookup(name: str, own: dict[str, type]) -> Any:
    """A name of the `qt` module: a class of the host's own, or one of Qt."""
    if name in own:
        return wrapper_class(own[name])
    for part in (QtWidgets, QtGui, QtCore, QtNetwork):
        found = getattr(part, name, None)
        if found is not None and name[0] == "Q":
            return wrapper_class(found) if isinstance(found, type) and issubclass(found, WRAPPED) else found
    raise AttributeError(f"module 'qt' has no attribute '{name}'")
