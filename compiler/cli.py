"""The command line: `speechc MODEL --target …`, and the tools around it (opt, passes, ops, inspect, diff)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from .. import __version__
from ..ir.errors import INTERNAL, SpeechcError, UsageError
from .commands import add_all
from .flags import AsJson, MinSnr, Model, Quiet, SampleRate, TimeAxis, Trust, Weights, axes, named
from .streams import diverted, ended_cleanly

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A compiler for speech models: PyTorch to files that run anywhere, with proof. "
    "`speechc MODEL --target onnx` is short for `speechc compile MODEL --target onnx`.",
)
Inputs = Annotated[
    list[str] | None, typer.Option("--input", help="An input the file does not describe: name=f32[1,T,80].")
]
Passes = Annotated[str | None, typer.Option("--passes", "-p", help='Passes to run: "fold,prune{heads=0.25}".')]
PrintAfter = Annotated[
    str | None, typer.Option("--print-ir-after", metavar="PASS|all|changed", help="Print the graph after passes.")
]
Dump = Annotated[Path | None, typer.Option("--dump-ir", metavar="DIR", help="Write the graph after every change.")]
Verify = Annotated[
    str, typer.Option("--verify-each", metavar="types|numeric", help="Check the graph after every pass.")
]
FrontEnd = Annotated[
    str | None, typer.Option("--front-end", metavar="SPEC", help="Compute these features of audio inside the file.")
]
Features = Annotated[
    str | None, typer.Option("--features", metavar="SPEC", help="Which features the model takes, for the manifest.")
]
STREAMING = "Streaming (durations: 320ms, 2.5s or 12 frames)"


def _streaming(flag: str, metavar: str | None, help: str):
    return typer.Option(flag, metavar=metavar, help=help, rich_help_panel=STREAMING)


Stream = Annotated[str | None, _streaming("--stream", "DUR", "Make a file that takes DUR of audio a step, with state.")]
Attention = Annotated[
    str | None,
    _streaming(
        "--attention", "chunk:DUR,left=DUR,right=DUR|window:left=DUR,right=DUR", "Limit how far attention sees."
    ),
]
LeftContext = Annotated[str | None, _streaming("--left-context", "DUR", "Limit how far back attention sees.")]
Conv = Annotated[
    str | None,
    _streaming("--conv", "delay|chunk|causal", "Convolutions: exact and late, to the chunk's end, or without future."),
]
Bidirectional = Annotated[
    str | None,
    _streaming("--bidirectional", "latency-controlled:chunk=DUR,right=DUR|forward", "Recurrences that run backward."),
]
Normalise = Annotated[
    str | None, _streaming("--normalise", "fixed|cumulative|window:DUR", "Statistics over the whole utterance.")
]
MaxLatency = Annotated[str | None, _streaming("--max-latency", "DUR", "Refuse more, the step's chunk included.")]
Batch = Annotated[int | None, _streaming("--batch", "N", "Independent streams in one step.")]
OwnInputs = Annotated[bool, _streaming("--own-inputs", None, "Inputs without time have a row for each stream.")]
Cache = Annotated[str, _streaming("--cache", "speed|memory", "What attention keeps of the past.")]
FrameShift = Annotated[
    str | None, _streaming("--frame-shift", "10ms", "Of the model's features, where it does not take raw audio.")
]
Page = Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Write a page about what was made.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="Stop after N rewrites.")]
Bisect = Annotated[bool, typer.Option("--bisect", help="Find the pass, and in it the rewrite, that breaks equality.")]


@app.command("compile")
def compile_(
    model: Model,
    target: Annotated[
        str, typer.Option("--target", "-t", help="onnx, tflite, coreml, tensorrt, a plugin's, or all.")
    ] = "onnx",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File or folder of the result.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Weights and, where it pays, activations in int8.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Weights (TFLite) or arithmetic (others) in float16.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Float32, where that is not the target's default.")] = False,
    int8_io: Annotated[bool, typer.Option("--int8-io", help="Inputs and outputs of the file in int8 too.")] = False,
    calibrate: Annotated[Path | None, typer.Option("--calibrate", metavar="DIR", help="Recordings for int8.")] = None,
    sample_rate: SampleRate = None,
    min_snr: MinSnr = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="An option of the target: speechc targets."),
    ] = None,
    stream: Stream = None,
    attention: Attention = None,
    left_context: LeftContext = None,
    conv: Conv = None,
    bidirectional: Bidirectional = None,
    normalise: Normalise = None,
    max_latency: MaxLatency = None,
    batch: Batch = None,
    own_inputs: OwnInputs = False,
    cache: Cache = "speed",
    frame_shift: FrameShift = None,
    ctc: Annotated[
        int | None, typer.Option("--ctc", metavar="BLANK", help="Add an output `tokens`: greedy CTC; 0, say, is blank.")
    ] = None,
    front_end: FrontEnd = None,
    features: Features = None,
    detect: Annotated[
        str | None,
        typer.Option("--detect", metavar="NAME=VALUE,...", help="How its scores are read: threshold=0.5,labels=voice."),
    ] = None,
    inputs: Inputs = None,
    time_axis: TimeAxis = None,
    weights: Weights = None,
    trust_pickle: Trust = False,
    passes: Passes = None,
    print_ir_after: PrintAfter = None,
    dump_ir: Dump = None,
    verify_each: Verify = "types",
    limit: Limit = None,
    bisect: Bisect = False,
    report: Page = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compile a model to a file for a target, and prove that the file does what the model did."""
    from . import driver, show
    from .assembly.assemble import Assembly
    from .assembly.build import build as build_folder
    from .assembly.opening import read_model
    from .settings import for_targets
    from .streaming import Streaming
    from .target_flags import ALL

    if report is not None:
        from .page.compiled import CompiledPage
    if bisect and (as_json or target == ALL or report):
        raise UsageError("SC017", "--bisect looks into one target, and makes nothing for --json or --report")
    settings = driver.Settings(
        target=target,
        precision=_precision(int8, fp16, fp32),
        calibration=calibrate,
        output=output,
        min_snr=min_snr,
        options=dict(named(text) for text in option or []),
        integer_ports=int8_io,
        passes=_split(passes),
        verify_each=_one_of(verify_each, ("types", "numeric"), "--verify-each"),
        print_after=print_ir_after,
        dump=dump_ir,
        limit=limit,
        sample_rate=sample_rate,
        streaming=Streaming(
            stream,
            attention,
            left_context,
            conv,
            bidirectional,
            normalise,
            max_latency,
            batch,
            own_inputs,
            cache,
            frame_shift,
        ),
        ctc=ctc,
        front_end=front_end,
        features=features,
        detect=None if detect is None else dict(named(part) for part in detect.split(",")),
    )
    with diverted(), show.progress(quiet or as_json) as progress:
        progress(f"capturing {model}")
        if model.endswith(".sir") and (inputs or time_axis):
            raise UsageError("SC046", f"{model} describes its own inputs: leave --input and --time-axis out")
        subject = read_model(model, inputs, axes(time_axis), weights, trust_pickle)
        several = isinstance(subject, Assembly)
        page = None if report is None else CompiledPage(report, subject, model, settings)
        if several:
            folder = build_folder(subject, settings, progress)
            parts = list(folder.reports.items())
        elif bisect:
            found = driver.find_culprit(subject, settings)
        elif target == ALL:
            each = for_targets(settings)
            made = driver.build_all(subject, each, progress)
            parts = [("", r) for r in made if isinstance(r, driver.Report)]
        else:
            one = driver.build(subject, settings, progress)
            parts = [("", one)]
        if page is not None:
            page.write(parts, progress)
    if several:
        show.folder(folder, as_json, quiet)
    elif bisect:
        show.culprit(found)
    elif target == ALL:
        show.all_reports(each, made, as_json, quiet)
    elif as_json:
        print(json.dumps(one.as_dict()))
    elif not quiet:
        show.report(one)


add_all(app)


@app.command()
def opt(
    file: Annotated[Path, typer.Argument(help="A graph as text (.sir), its weights beside it.")],
    passes: Passes = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here instead of standard output.")
    ] = None,
    print_ir_after: PrintAfter = None,
    dump_ir: Dump = None,
    verify_each: Verify = "types",
    limit: Limit = None,
    bisect: Bisect = False,
    quiet: Quiet = False,
) -> None:
    """Run passes over a graph in text form; remarks and timings go to standard error."""
    from ..ir import text
    from ..passes.base import Context
    from . import driver, show
    from .executor import Executor

    subject = driver.read_subject(file)
    settings = driver.Settings(
        passes=_split(passes) or [], verify_each=verify_each, print_after=print_ir_after, dump=dump_ir, limit=limit
    )
    if bisect:
        show.culprit(driver.find_culprit(subject, settings))
        return
    context = Context(Executor(), limit=limit)
    steps = driver.transform(subject, settings, context, driver.planned(subject, settings, False), lambda what: None)
    if output:
        text.save(subject.module, output)
    else:
        print(subject.module, end="")
    if not quiet:
        show.steps(steps, context.remarks)


@app.command()
def targets() -> None:
    """List every target: its files, precisions and options, which are flags of `compile` as well."""
    from . import show

    show.targets()


@app.command()
def passes() -> None:
    """List every pass: stage, options, what it keeps."""
    from . import show

    show.passes()


@app.command()
def ops(
    used: Annotated[str | None, typer.Option("--used", metavar="MODEL", help="What this model needs instead.")] = None,
    inputs: Inputs = None,
    time_axis: TimeAxis = None,
    weights: Weights = None,
    trust_pickle: Trust = False,
) -> None:
    """List every op of the IR with its targets and whether it streams, or the operators that a model needs."""
    from . import show

    if used is None:
        show.ops()
        return
    from .capture import used_operators

    with diverted():
        found = used_operators(used, inputs, time_axis=axes(time_axis), weights=weights, trust_pickle=trust_pickle)
    show.operators(found)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help=".sir text, or an artefact with its manifest")],
    depth: Annotated[int, typer.Option(help="Parts of the module path to group by.")] = 2,
) -> None:
    """Summarise a graph or an artefact: inputs, outputs, states, ops, weights by module."""
    from . import show

    show.inspect(file, depth)


@app.command()
def diff(a: Path, b: Path) -> None:
    """What changed from one graph to another: op counts, and lines by module path."""
    from . import show

    show.diff(a, b)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _split(texts: str | None) -> list[str] | None:
    from ..ir.types import split_commas

    return None if texts is None else split_commas(texts)


def _precision(int8: bool, fp16: bool, fp32: bool) -> str | None:
    asked = [name for name, on in (("int8", int8), ("float16", fp16), ("float32", fp32)) if on]
    if len(asked) > 1 and fp32:
        raise UsageError("SC014", "--fp32 excludes --int8 and --fp16")
    return "+".join(asked) or None


def _one_of(value: str, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed:
        raise UsageError("SC017", f"{what} {value}: one of {', '.join(allowed)}")
    return value


def _flags(command) -> set[str]:
    """Every flag of a command."""
    hints = get_type_hints(command, include_extras=True).values()
    options = [m for h in hints for m in getattr(h, "__metadata__", ()) if isinstance(m, typer.models.OptionInfo)]
    return {name for option in options for name in option.param_decls or ()}


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `speechc` command; ends the process with the exit status of the design's table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    first = next((a for a in given if not a.startswith("-")), None)
    if given == ["--version"]:
        given = ["version"]
    elif first is not None and first not in commands and not {"-h", "--help"} & set(given):
        given = ["compile", *given]
    try:
        if given[:1] == ["compile"]:
            from .target_flags import as_options

            given = as_options(given, _flags(compile_))
        with ended_cleanly():
            app(given, prog_name="speechc", standalone_mode=True)
    except SpeechcError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"error[SC018]: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        sys.exit(UsageError.exit_code)
    except Exception as error:
        if os.environ.get("SPEECHC_DEBUG"):
            raise
        print(f"error[SC000]: this is a fault of speechc: {type(error).__name__}: {error}", file=sys.stderr)
        print("  try: SPEECHC_DEBUG=1 shows the traceback to report", file=sys.stderr)
        sys.exit(INTERNAL)


if __name__ == "__main__":
    main()
