# SPDX-License-Identifier: Apache-2.0
"""Makes PySide6's own classes behave as PythonQt's wrappers do in Slicer.

Every class of QtCore, QtGui and QtWidgets is changed in place, so that objects Qt makes itself (a table's header, a
layout's item) are as strict as those made in Python, and `type(widget) is qt.QCheckBox` holds as it does in Slicer:

* a Qt property is an attribute (`label.text`, `label.text = "x"`, never `label.text()`);
* to set an attribute the class does not have, or a method, raises AttributeError (a Python subclass may have new ones);
* `connect("clicked(bool)", f)` and `disconnect` take a signature as a string; an unknown one prints and returns False.
"""

import contextlib
import ctypes
import functools
import inspect
import sys
import weakref
from collections.abc import Callable
from types import MethodType

from PySide6 import QtCore, QtGui, QtWidgets

_SHIBOKEN_OBJECT = QtCore.QObject.__mro__[-2]
_setPlain = _SHIBOKEN_OBJECT.__setattr__
_originalGetters: dict[type, Callable] = {}
# PySide lends its C++ getters to Python by name; that of this property is hidden by a static method.
_READ_AS_PROPERTY = {"singleShot"}
_childrenAreLeftOut = False


def isSlicerClass(cls: type) -> bool:
    """True for a class that is a C++ class in Slicer: PySide's, and stand-ins that say `slicerClass = True`."""
    return cls.__module__.startswith("PySide6") or cls.__dict__.get("slicerClass", False)


@functools.cache
def _originalGetter(cls: type) -> Callable:
    """A class's own, not that of QObject: QFile.exists, for one, is two functions that only QFile's can tell apart."""
    return next(_originalGetters[base] for base in cls.__mro__ if base in _originalGetters)


def _getQt(obj: QtCore.QObject, name: str):
    return _originalGetter(type(obj))(obj, name)


@functools.cache
def _properties(cls: type) -> dict[str, QtCore.QMetaProperty]:
    """The Qt properties of a class by name, but for those that a Python subclass hides."""
    meta = cls.staticMetaObject
    found = {meta.property(k).name(): meta.property(k) for k in range(meta.propertyCount())}
    for base in cls.__mro__:
        if base.__module__.startswith("PySide6"):
            break
        own = {name for name, value in base.__dict__.items() if not isinstance(value, QtCore.Property)}
        found = {name: entry for name, entry in found.items() if name not in own}
    return found


def _readProperty(obj: QtCore.QObject, name: str):
    getter = getattr(type(obj), name, None)
    if name in _READ_AS_PROPERTY or isinstance(getter, QtCore.Property):
        value = obj.property(name)
        return tuple(value) if isinstance(value, list) else value
    # The getter itself where it has the property's name: `property()` turns flags into numbers, and asks a virtual one
    # (sizeHint) of Python again.
    return getter(obj) if callable(getter) else obj.property(name)


def _writeProperty(obj: QtCore.QObject, entry: QtCore.QMetaProperty, value) -> None:
    name = entry.name()
    if not entry.isWritable():
        raise AttributeError(f"Property '{name}' of {type(obj).__name__} is not writable")
    setter = getattr(type(obj), f"set{name[0].upper()}{name[1:]}", None)
    if entry.typeName() == "QStringList":
        value = list(value)
    try:
        if value is None and entry.typeName() == "QString":
            raise TypeError("None is no string")
        done = setter(obj, value) if setter else obj.setProperty(name, value)
    except TypeError as reason:
        done = reason
    if done is not None and done is not True:
        raise AttributeError(f"Property '{name}' of type '{entry.typeName()}' does not accept {value!r}")


def _getattribute(self, name: str):
    if name in _ADDED:
        return MethodType(_ADDED[name], self)
    if name == "name":
        return _getQt(self, "objectName")()
    properties = _properties(type(self))
    if name in properties:
        return _readProperty(self, name)
    ofStandIn = name[3:4].lower() + name[4:] if name.startswith("set") else ""
    if ofStandIn in properties and not hasattr(type(self), name):
        return functools.partial(_writeProperty, self, properties[ofStandIn])
    return _getQt(self, name)


def _setattr(self, name: str, value) -> None:
    cls = type(self)
    if name == "name":
        self.setObjectName(value)
    elif name in (properties := _properties(cls)):
        _writeProperty(self, properties[name], value)
    elif isinstance(value, QtCore.SignalInstance):
        _setPlain(self, name, value)  # PySide keeps the signal it has looked up
    elif hasattr(cls, name) or not (_childrenAreLeftOut and isinstance(value, QtCore.QObject)):
        _refuseUnknown(cls, name)
        _setPlain(self, name, value)


@contextlib.contextmanager
def childrenLeftOut():
    """PySide's QUiLoader gives a widget its children as attributes, which PythonQt does not: not in here."""
    global _childrenAreLeftOut
    _childrenAreLeftOut = True
    try:
        yield
    finally:
        _childrenAreLeftOut = False


def _setattrOfValue(self, name: str, value) -> None:
    """For classes without Qt properties: items, colours, urls."""
    _refuseUnknown(type(self), name)
    _setPlain(self, name, value)


def _refuseUnknown(cls: type, name: str) -> None:
    if not isSlicerClass(cls):
        return
    known = inspect.getattr_static(cls, name, None)
    if known is None and not any(name in base.__dict__ for base in cls.__mro__):
        raise AttributeError(f"'{cls.__name__}' object has no attribute '{name}'")
    if isinstance(known, QtCore.Signal) or (callable(known) and not isinstance(known, type)):
        raise AttributeError(f"'{name}' of '{cls.__name__}' is a method or a signal and cannot be assigned")


# signals by signature

_connections: "weakref.WeakKeyDictionary[QtCore.QObject, dict]" = weakref.WeakKeyDictionary()


def _signal(obj: QtCore.QObject, signature: str) -> QtCore.SignalInstance | None:
    """The signal of exactly this signature; a stand-in has a list of its own for the types PySide does not know."""
    normalized = QtCore.QMetaObject.normalizedSignature(signature).data().decode()
    if normalized in (ofStandIn := getattr(type(obj), "slicerSignals", {})):
        return _getQt(obj, ofStandIn[normalized])
    if obj.metaObject().indexOfSignal(normalized) < 0:
        return None
    return _getQt(obj, normalized.split("(")[0])


def _argumentCount(signature: str) -> int:
    inside = signature[signature.index("(") + 1 : signature.rindex(")")].strip()
    return inside.count(",") + 1 if inside else 0


def _accepted(function: Callable) -> int:
    """How many positional arguments a function takes; PythonQt leaves out what is too much."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return sys.maxsize  # a C++ slot, the emit of a signal
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return sys.maxsize
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )


def _connect(self, signature: str, receiver, slot: str | None = None, *more) -> bool:
    if not isinstance(signature, str):  # PySide itself, in QTimer.singleShot
        return _getQt(self, "connect")(signature, receiver, slot, *more)
    signal = _signal(self, signature)
    if signal is None:
        print(f"QObject::connect: no signal '{signature}' in {type(self).__name__}", file=sys.stderr)  # noqa: T201
        return False
    function = getattr(receiver, slot.split("(")[0]) if slot else receiver
    target = function.emit if isinstance(function, QtCore.SignalInstance) else function
    count = min(_argumentCount(signature), _accepted(target))
    # PySide hands over as many arguments as the receiver has names for; *names would get none of "clicked(bool)".
    call = (
        lambda: target(),
        lambda first: target(first),
        lambda first, second: target(first, second),
        lambda first, second, third: target(first, second, third),
    )[count]
    signal.connect(call)
    _connections.setdefault(self, {}).setdefault((signature, function), []).append(call)
    return True


def _disconnect(self, signature: str, receiver, slot: str | None = None) -> bool:
    function = getattr(receiver, slot.split("(")[0]) if slot else receiver
    calls = _connections.get(self, {}).pop((signature, function), [])
    for call in calls:
        _signal(self, signature).disconnect(call)
    return bool(calls)


_ADDED = {
    "connect": _connect,
    "disconnect": _disconnect,
    "className": lambda self: self.metaObject().className(),
}


def _keepSingletons() -> None:
    """PySide 6.12 gives None, True and False back without counting them, as they are immortal from Python 3.12 on.

    In 3.11 some ten thousand calls would end the process ("deallocating None").
    """
    if sys.version_info < (3, 12):
        for singleton in (None, True, False, NotImplemented):
            ctypes.c_ssize_t.from_address(id(singleton)).value += 2**40


def install() -> None:
    """Change the classes; once in a process."""
    _keepSingletons()
    originals: list[tuple[type, Callable]] = []
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):  # vars() lacks what PySide has not made yet
            cls = getattr(module, name)
            if not (isinstance(cls, type) and issubclass(cls, _SHIBOKEN_OBJECT)):
                continue
            if issubclass(cls, QtCore.QObject):
                originals.append((cls, cls.__getattribute__))
                cls.__setattr__ = _setattr
            else:
                cls.__setattr__ = _setattrOfValue
    _originalGetters.update(originals)  # all of them are read before the first is replaced
    for cls in _originalGetters:
        cls.__getattribute__ = _getattribute
