"""A pickle as plain data: nothing that it names is imported, called or built.

A pickle is a program for a stack machine whose GLOBAL and REDUCE opcodes import any name and call it. This reader runs
the opcodes of protocols 0 to 5 that hold data. Where one of them would import a name it keeps the name (`Name`), where
one would call it or set an object's state it keeps what would have been called (`Call`). Names outside the caller's
list end the reading. `array_of` makes a numeric array of what numpy's own pickles hold.

The work is bounded: MAX_OPCODES opcodes, each of which copies at most its own bytes of the file.
"""
from __future__ import annotations

import codecs
import math
import re
import struct
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

MAX_OPCODES = 200_000
_NUMERIC = re.compile(r"[<>|=]?([biuf])([1248])")


@dataclass(frozen=True)
class Name:
    """A module's member that the pickle names."""

    module: str
    name: str


@dataclass(eq=False)
class Call:
    """What the pickle would have called: `function` with `arguments`, and the state that it would have set; None for
    none."""

    function: Name
    arguments: Any
    state: Any = None


def read_plain(data: bytes, allowed: Callable[[Name], bool]) -> Any:
    """A pickle's value as None, bool, int, float, str, bytes, tuple, list, dict with keys of text or numbers, `Name`
    and `Call`. Text of Python 2 is read as Latin-1.

    allowed  which names may occur
    ValueError, one line, for a name that is not allowed, an opcode that holds no data, and a cut or broken file.
    """
    try:
        return _Machine(data, allowed).run()
    except (IndexError, KeyError, TypeError, struct.error, OverflowError, AttributeError, RecursionError,
            MemoryError) as error:
        raise ValueError(f"a broken pickle ({type(error).__name__}: {error})") from None


def array_of(value: Any) -> np.ndarray:
    """The array (any shape) of numbers that numpy pickled as `value`, a copy. ValueError for anything else: for
    another dtype than bool, integer or float of at most 8 bytes, and for a shape that the data do not fill."""
    if isinstance(value, Call) and value.function.name == "_frombuffer" and len(value.arguments) == 4:
        content, dtype, shape, order = value.arguments
        return _filled(content, dtype, shape, order == "F")
    if not (isinstance(value, Call) and value.function.name == "_reconstruct" and isinstance(value.state, tuple)
            and len(value.state) in (4, 5)):
        raise ValueError(f"must be an array of numbers, received {_kind(value)}")
    shape, dtype, fortran, content = value.state[-4:]
    return _filled(content, dtype, shape, fortran is True or fortran == 1)


def _filled(content: Any, dtype: Any, shape: Any, fortran: bool) -> np.ndarray:
    kind = _dtype_of(dtype)
    content = _bytes_of(content)
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 8:
        raise ValueError(f"an array's shape must be a tuple of sizes, received {_kind(shape)}")
    if math.prod(shape) * kind.itemsize != len(content):
        raise ValueError(f"an array of {math.prod(shape)} {kind} must have {math.prod(shape) * kind.itemsize} bytes, "
                         f"received {len(content)}")
    return np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C").copy()


def _dtype_of(value: Any) -> np.dtype:
    """numpy's dtype by its code and, in its state, its byte order. No state is set on any dtype."""
    if not (isinstance(value, Call) and value.function == Name("numpy", "dtype") and value.arguments):
        raise ValueError(f"an array's dtype must be numpy's, received {_kind(value)}")
    code, state = value.arguments[0], value.state
    found = _NUMERIC.fullmatch(code) if isinstance(code, str) else None
    if found is None or found.groups() in (("f", "1"), ("b", "2"), ("b", "4"), ("b", "8")):
        raise ValueError(f"an array must be of numbers, received dtype {code!r}"[:80])
    order = state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") else "<"
    return np.dtype(order + found.group(1) + found.group(2))


def _bytes_of(value: Any) -> bytes:
    """Bytes, text of Python 2, or the call by which old protocols write bytes: of the bytes, or of encoded text."""
    if _is_bytes(value):
        value = value.arguments[0] if value.arguments else b""      # protocols 0 to 2 call it for none
    if isinstance(value, Call) and value.function == Name("_codecs", "encode") and len(value.arguments) == 2 \
            and value.arguments[1] == "latin1":
        value = value.arguments[0]
    if isinstance(value, str):
        return value.encode("latin-1")
    if not isinstance(value, bytes):
        raise ValueError(f"an array's data must be bytes, received {_kind(value)}")
    return value


def _is_bytes(value: Any) -> bool:
    return isinstance(value, Call) and value.function.name in ("bytes", "bytearray") and len(value.arguments) < 2


def _kind(value: Any) -> str:
    return f"{value.function.module}.{value.function.name}" if isinstance(value, Call) else type(value).__name__


class _Machine:
    """The stack machine of `pickle`, without imports, calls and objects."""

    def __init__(self, data: bytes, allowed: Callable[[Name], bool]) -> None:
        self._data, self._at, self._allowed = data, 0, allowed
        self._stack: list[Any] = []             # the values since the last mark
        self._below: list[list[Any]] = []       # those before it, a list a mark
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """As `read_plain`."""
        for _ in range(MAX_OPCODES):
            code = self._take(1)
            if code == b".":
                if len(self._stack) != 1 or self._below:
                    raise ValueError(f"ends with {len(self._stack)} values and {len(self._below)} marks")
                return self._stack[0]
            step = _STEPS.get(code)
            if step is None:
                raise ValueError(f"holds the opcode {code!r}, which holds no data")
            step(self)
        raise ValueError(f"has more than {MAX_OPCODES} opcodes")

    # --- the file -------------------------------------------------------------------------------------------------
    def _take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._data) - self._at:
            raise ValueError("ends before its data")
        self._at += count
        return self._data[self._at - count:self._at]

    def _line(self) -> bytes:
        end = self._data.index(b"\n", self._at)         # ValueError where there is none
        line, self._at = self._data[self._at:end], end + 1
        return line

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _sized(self, layout: str) -> bytes:
        return self._take(self._number(layout))

    # --- the stack ------------------------------------------------------------------------------------------------
    def push(self, value: Any) -> None:
        """One more value."""
        self._stack.append(value)

    def mark(self) -> None:
        """(."""
        self._below.append(self._stack)
        self._stack = []

    def _pop(self) -> Any:
        return self._stack.pop()

    def _marked(self) -> list[Any]:
        """The values since the last mark, which goes."""
        found, self._stack = self._stack, self._below.pop()
        return found

    def drop(self) -> None:
        """0: the last value, or the mark above which there is none."""
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    def _name(self, module: Any, name: Any) -> Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError(f"names a member by a {type(module).__name__} and a {type(name).__name__}, not by text")
        found = Name(module, name)
        if not self._allowed(found):
            raise ValueError(f"names {found.module[:60]}.{found.name[:60]}, which is not needed: it is not run")
        return found

    def _into(self, kind: type) -> Any:
        """The container below what was just taken."""
        target = self._stack[-1]
        if type(target) is not kind:
            raise ValueError(f"fills a {type(target).__name__} as a {kind.__name__}")
        return target

    def _set_items(self, values: list[Any]) -> None:
        target = self._into(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, int, float, bool, bytes):
                raise ValueError(f"has a key of a dictionary that is a {type(key).__name__}")
            target[key] = value

    # --- opcodes --------------------------------------------------------------------------------------------------
    def integer(self) -> None:
        """I: decimal, or 00 and 01 for False and True."""
        line = self._line()
        self.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))

    def items(self) -> None:
        """u."""
        self._set_items(self._marked())

    def item(self) -> None:
        """s."""
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def dictionary(self) -> None:
        """d."""
        values = self._marked()
        self.push({})
        self._set_items(values)

    def append(self) -> None:
        """a."""
        value = self._pop()
        self._into(list).append(value)

    def extend(self) -> None:
        """e, and the same for a set, which is kept as a list."""
        values = self._marked()
        self._into(list).extend(values)

    def tuple_of(self, count: int) -> None:
        """The last `count` values."""
        self.push(tuple([self._pop() for _ in range(count)][::-1]))

    def put(self, number: int) -> None:
        """Remember the last value."""
        self._memo[number] = self._stack[-1]

    def call(self) -> None:
        """R, NEWOBJ: keep what would have been called."""
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("calls what is no name")
        if function.name == "_reconstructor":       # by which protocols 0 and 1 make an object of a class
            kind, base, state = arguments if len(arguments) == 3 else (None, None, None)
            if not isinstance(kind, Name) or kind.module.startswith("numpy") or kind.name == "object" \
                    or not isinstance(base, Name) or base.name != "object" or state is not None:
                raise ValueError("rebuilds an object that is not needed: it is not made")
            function, arguments = kind, ()
        self.push(Call(function, arguments))

    def call_with_names(self) -> None:
        """NEWOBJ_EX."""
        self._pop()
        self.call()

    def object_of(self) -> None:
        """o: the class is the first value since the mark."""
        function, *arguments = self._marked()
        self.push(function)
        self.push(tuple(arguments))
        self.call()

    def instance(self) -> None:
        """i: the class stands in the file."""
        module, name = (self._line().decode("ascii") for _ in range(2))
        arguments = tuple(self._marked())
        self.push(Call(self._name(module, name), arguments))

    def build(self) -> None:
        """b: keep the state."""
        state, target = self._pop(), self._stack[-1]
        if not isinstance(target, Call):
            raise ValueError("sets the state of what is no object")
        target.state = state

    def name_of_lines(self) -> None:
        """c."""
        self.push(self._name(*(self._line().decode("ascii") for _ in range(2))))

    def name_of_stack(self) -> None:
        """STACK_GLOBAL."""
        name, module = self._pop(), self._pop()
        self.push(self._name(module, name))


def _text(line: bytes) -> str:
    """The quoted text of opcode S, as Python 2 wrote it."""
    quote, inside = line[:1], line[1:-1]
    if len(line) < 2 or quote not in (b"'", b'"') or line[-1:] != quote:
        raise ValueError("holds a text that is none")
    return codecs.escape_decode(inside)[0].decode("latin-1")        # as `pickle` does; no expression is evaluated


_TEXT = {"encoding": "utf-8", "errors": "surrogatepass"}
_STEPS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m._take(1), b"\x95": lambda m: m._take(8),
    b"(": _Machine.mark, b"0": _Machine.drop, b"1": lambda m: m._marked(),
    b"2": lambda m: m.push(m._stack[-1]),
    b"N": lambda m: m.push(None), b"\x88": lambda m: m.push(True), b"\x89": lambda m: m.push(False),
    b"I": _Machine.integer, b"J": lambda m: m.push(m._number("<i")), b"K": lambda m: m.push(m._number("<B")),
    b"M": lambda m: m.push(m._number("<H")), b"L": lambda m: m.push(int(m._line().rstrip(b"L"))),
    b"\x8a": lambda m: m.push(int.from_bytes(m._sized("<B"), "little", signed=True)),
    b"F": lambda m: m.push(float(m._line())), b"G": lambda m: m.push(m._number(">d")),
    b"S": lambda m: m.push(_text(m._line())), b"T": lambda m: m.push(m._sized("<i").decode("latin-1")),
    b"U": lambda m: m.push(m._sized("<B").decode("latin-1")),
    b"B": lambda m: m.push(m._sized("<I")), b"C": lambda m: m.push(m._sized("<B")),
    b"\x8e": lambda m: m.push(m._sized("<Q")), b"\x96": lambda m: m.push(m._sized("<Q")),
    b"V": lambda m: m.push(m._line().decode("raw-unicode-escape")),
    b"X": lambda m: m.push(m._sized("<I").decode(**_TEXT)), b"\x8c": lambda m: m.push(m._sized("<B").decode(**_TEXT)),
    b"\x8d": lambda m: m.push(m._sized("<Q").decode(**_TEXT)),
    b"]": lambda m: m.push([]), b"\x8f": lambda m: m.push([]), b"a": _Machine.append, b"e": _Machine.extend,
    b"\x90": _Machine.extend, b"l": lambda m: m.push(m._marked()), b"\x91": lambda m: m.push(m._marked()),
    b")": lambda m: m.push(()), b"t": lambda m: m.push(tuple(m._marked())),
    b"\x85": lambda m: m.tuple_of(1), b"\x86": lambda m: m.tuple_of(2), b"\x87": lambda m: m.tuple_of(3),
    b"}": lambda m: m.push({}), b"d": _Machine.dictionary, b"s": _Machine.item, b"u": _Machine.items,
    b"p": lambda m: m.put(int(m._line())), b"q": lambda m: m.put(m._number("<B")),
    b"r": lambda m: m.put(m._number("<I")), b"\x94": lambda m: m.put(len(m._memo)),
    b"g": lambda m: m.push(m._memo[int(m._line())]), b"h": lambda m: m.push(m._memo[m._number("<B")]),
    b"j": lambda m: m.push(m._memo[m._number("<I")]),
    b"c": _Machine.name_of_lines, b"\x93": _Machine.name_of_stack, b"R": _Machine.call, b"\x81": _Machine.call,
    b"\x92": _Machine.call_with_names, b"o": _Machine.object_of, b"i": _Machine.instance, b"b": _Machine.build,
}
