"""Each object is used on its own thread: aiokafka's consumer on the consumer's, everything else on the main loop's.

With EVENTLOG_THREAD_CHECKS=1 a call of such an object on any other thread ends the process with code 70 and a line
with `wrong thread`. Tests that start processes set it; without it nothing is wrapped and nothing is paid.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from eventlog.runtime.abort import abort

VARIABLE = "EVENTLOG_THREAD_CHECKS"


def checking() -> bool:
    """Whether this process checks."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def belongs_here(*things: Any, but: Iterable[str] = (), only: Iterable[str] = ()) -> None:
    """From now on the methods of these objects may be called on the calling thread only.

    `only` and `but` choose by name. Methods that were replaced on the object itself are checked too, later ones not.
    """
    if not checking():
        return
    owner = threading.current_thread()
    for thing in things:
        for name in set(only or (*dir(type(thing)), *vars(thing))) - set(but):
            if name.startswith("__") or isinstance(getattr(type(thing), name, None), property):
                continue
            method = vars(thing).get(name) or getattr(type(thing), name, None)
            if _is_method(method):
                setattr(thing, name, _checked(getattr(thing, name), f"{type(thing).__name__}.{name}", owner))


def _is_method(found: Any) -> bool:
    return not isinstance(found, type) and (hasattr(found, "__code__") or hasattr(found, "__func__"))


def _checked(method: Callable[..., Any], name: str, owner: threading.Thread) -> Callable[..., Any]:
    identity = owner.ident

    @wraps(method)
    def checked(*args: Any, **kwargs: Any) -> Any:
        # Garbage is collected on any thread, and may end an object whose thread is gone.
        if threading.get_ident() != identity and owner.is_alive():
            here = threading.current_thread().name
            abort("wrong thread", None, called=name, thread=repr(here), belongs_to=repr(owner.name))
        return method(*args, **kwargs)

    return checked
