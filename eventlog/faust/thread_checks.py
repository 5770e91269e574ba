"""Checks that each object is used on its own thread: aiokafka's consumer on the consumer's, the rest on the main one.

With EVENTLOG_THREAD_CHECKS=1, a call on another thread ends the process with code 70 and logs `wrong thread`. Tests
that start processes set the variable. Without it no method is wrapped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from eventlog.runtime.abort import abort

VARIABLE = "EVENTLOG_THREAD_CHECKS"


def enabled() -> bool:
    """Whether this process checks threads."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def bind_to_this_thread(*things: Any, but: Iterable[str] = (), only: Iterable[str] = ()) -> None:
    """Restricts the methods of these objects to the calling thread.

    `only` and `but` choose methods by name. Methods that were replaced on an object are checked, too, but not those
    that are replaced later.
    """
    if not enabled():
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
        # The garbage collector runs on any thread, and may finalize an object whose thread has ended.
        if threading.get_ident() != identity and owner.is_alive():
            here = threading.current_thread().name
            abort("wrong thread", None, called=name, thread=repr(here), belongs_to=repr(owner.name))
        return method(*args, **kwargs)

    return checked
