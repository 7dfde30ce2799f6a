"""The child process of a session: answers calls on one `Engine` until its input ends."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Serve (method, arguments) from standard input; answer (ok, result) on standard output."""
    from .messages import receive, send
    from .run import Engine, last_run

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the runtime prints must not mix with the answers
    engine, there = None, {}
    while True:
        try:
            method, arguments = receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if method == "open":
                engine, result = Engine(*arguments), None
            elif method == "run":
                arrays = {n: there[a] if isinstance(a, str) else a for n, a in arguments[0].items()}
                result = engine.run(arrays)
                there = last_run(arrays, result)
            else:
                result = getattr(engine, method)(*arguments)
            send(answers, (True, result))
        except Exception as error:
            send(answers, (False, f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()
