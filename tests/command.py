"""The command line, run in this process."""

import contextlib
import io

from speechc.compiler.cli import main


def run(*arguments, cwd):
    """What `speechc ARGUMENTS` does in the folder `cwd`: (status, standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in arguments])
            status = 0
        except SystemExit as end:
            status = end.code or 0
    return status, out.getvalue(), err.getvalue()
