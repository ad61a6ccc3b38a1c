"""The command line: parse, build, call. The only place for flags."""

import argparse
import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tlx
from tlx.core import processor

DESCRIPTION = """\
What is being transferred in transfer learning? Trains networks from random and from
pretrained weights and compares them: mistakes, features, parameters, loss landscape."""

EXAMPLES = """\
examples:
  tlx study --config=configs/mini.py --workdir=runs/mini
      the default study, five minutes on two cores; ends with the path of its page
  tlx study --config=configs/mini.py --workdir=runs/long --config.finetune.num_steps=2000
      the same with another value; any key of the config can be set this way
  tlx study --config=configs/mini.py --workdir=runs/basin --config.questions="('basin',)"
      one question alone; its options stand under its name, as --config.basin.num_draws=64
  tlx train --config=configs/mini.py:scratch --workdir=runs/scratch
      one training run of it
  tlx report --workdir=runs/mini
      draws the page again from the records
  tlx data check folder --folder=photos --split=train --out=photos.png
      counts a data set, finds images that cannot be read, draws some; tlx data list names all
  tlx init --data=photos --source=drawings --minutes=30
      writes a config for a study on images of yours, fit for the time, that runs as it is
  tlx audit a.safetensors b.safetensors --parent=base.safetensors
      what two checkpoints share and where they differ, from their weights alone, in seconds
  tlx import resnet50.pth --model=resnet50 --workdir=runs/imported
      weights of torchvision or the authors, for runs to start from (init_from.workdir)
  tlx export --workdir=runs/scratch --out=scratch.safetensors
      a run's last weights with PyTorch's names

A command that was stopped goes on where it was when it is given again.

exit status: 0 done; 1 could not be done, as one sentence on standard error says; 2 unknown or
missing arguments; 130 interrupted; 141 nobody reads what is printed.
"""

REMEDIES = {
    errno.ENOENT: "make the folder it is in, or name another",
    errno.ENOTDIR: "a part of the path is a file; name another",
    errno.EISDIR: "that is a folder; name a file",
    errno.EEXIST: "name another, or remove it",
    errno.EACCES: "its permissions forbid it; name a place that you may write to",
    errno.EROFS: "name a place that can be written to",
    errno.ENOSPC: "free some space and give the command again, which then goes on",
    errno.EDQUOT: "free some space and give the command again, which then goes on",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What to do about an error of the operating system."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit status, which `tlx --help` explains.

    What a user can cause is reported in one sentence. Other exceptions are faults of tlx, and come
    with their traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    args, rest = _parser().parse_known_args(argv)
    overrides = [word.removeprefix("--config.") for word in rest if word.startswith("--config.")]
    other = [word for word in rest if not word.startswith("--config.")]
    if other:
        _parser().error(f"unknown arguments: {' '.join(other)}; see tlx {args.command} --help")
    processor.tune()
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs each file, and what it raises
    try:
        if getattr(args, "out", None) is not None and not args.out.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder", str(args.out.parent))
        args.run(args, overrides)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 141
    except OSError as error:
        print(f"tlx {args.command}: {_told(error)}", file=sys.stderr)
        return 1
    except (ValueError, ImportError, FloatingPointError) as error:
        print(f"tlx {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _told(error: OSError) -> str:
    """What happened where, and what to do."""
    if error.errno is None:
        return str(error)
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    remedy = REMEDIES.get(error.errno)
    return f"{where}{error.strerror}" + (f"; {remedy}" if remedy else "")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "tlx", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"tlx {tlx.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, run, summary in (
        ("study", _study, "a whole study: runs, analyses, page"),
        ("train", _train, "one training run"),
        ("report", _report, "draw a study's page again from its records"),
    ):
        command = _command(commands, name, run, summary)
        if name != "report":
            command.add_argument(
                "--config",
                required=True,
                metavar="FILE[:ARG]",
                help="a Python file with get_config(arg); set single values by "
                "--config.key.subkey=VALUE",
            )
            command.add_argument(
                "--workdir", required=True, type=Path, help="where everything is written"
            )
        else:
            command.add_argument(
                "--workdir", required=True, type=Path, nargs="+", help="of one or several studies"
            )
            command.add_argument(
                "--export",
                type=Path,
                metavar="DIR",
                help="a folder for every figure as SVG and PDF and every table as CSV and LaTeX "
                "(of several studies a folder each in it)",
            )
        if name == "study":
            command.add_argument(
                "--plan",
                action="store_true",
                help="print what is to be done, what is done, and about how long the rest takes",
            )
            command.add_argument(
                "--workers",
                type=int,
                metavar="N",
                help="processes that train and answer side by side, each in one thread (as many as "
                "cores and memory allow); the numbers are the same for any. On an accelerator one "
                "process does all",
            )
    _add_init(commands)
    _add_audit(commands)
    _add_data(commands)
    _add_weights(commands)
    return parser


def _command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=run.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def _add_init(commands: Any) -> None:
    command = _command(commands, "init", _init, "a first config for a study on your own images")
    command.add_argument(
        "--data", required=True, help="a folder with train/CLASS/image and test/CLASS/image"
    )
    command.add_argument("--source", help="another such folder, on which P is trained")
    command.add_argument("--weights", help="or a workdir of tlx import, from which P is taken")
    command.add_argument(
        "--minutes", type=float, default=30.0, help="that the study may take here, about (30)"
    )
    command.add_argument("--size", type=int, help="of the images, in pixels (32, or 96 of weights)")
    command.add_argument("--out", type=Path, default=Path("study.py"), help="a new file (study.py)")


def _add_audit(commands: Any) -> None:
    command = _command(
        commands, "audit", _audit, "what two checkpoints share and where they differ"
    )
    command.add_argument("a", help="a file of weights (torch.save, safetensors, msgpack, npz)")
    command.add_argument("b", help="another; or workdirs of tlx")
    command.add_argument("--parent", help="the weights from which both were trained on")
    command.add_argument(
        "--model",
        metavar="NAME[,OPTION=VALUE]|MODULE:FUNCTION",
        help="what they are of: a name in tlx.models, as resnet50, or a function of yours from a "
        "path to (apply_fn, params) or (apply_fn, params, feature_fn)",
    )
    command.add_argument("--key", help="where in the files the weights are, as state_dict")
    command.add_argument(
        "--data",
        help="a folder with a folder of images for each class, or an .npz with labels and images "
        "(uint8) or inputs; needs a model",
    )
    command.add_argument("--split", help="the folder of --data that has the classes")
    command.add_argument("--size", type=int, default=224, help="of the images, in pixels (224)")
    command.add_argument(
        "--mean", type=_numbers, metavar="R,G,B", help="of the pixels in 0 … 1 (ImageNet's)"
    )
    command.add_argument(
        "--std", type=_numbers, metavar="R,G,B", help="their deviation (ImageNet's)"
    )
    command.add_argument("--most", type=int, default=500, help="examples to look at (500)")
    command.add_argument(
        "--out", type=Path, help="a folder for the page, its tables and a JSON (audit)"
    )


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="what data sets there are, and whether they are sound")
    of_data = data.add_subparsers(dest="what", required=True, metavar="what")
    _command(of_data, "list", _data_list, "the names that a config's data.name takes")
    command = _command(of_data, "prepare", _data_prepare, "one as tensorflow-datasets' files")
    command.add_argument("name", help="as tensorflow-datasets calls it, as fashion_mnist")
    command = _command(of_data, "check", _data_check, "a look at one")
    command.add_argument("name", help="as data.name in a config")
    command.add_argument("--split", default="train", help="which part (train)")
    command.add_argument("--folder", help="where its files are; else $TLX_DATA_DIR/NAME")
    command.add_argument("--out", type=Path, help="a PNG of some images with their labels")
    command.add_argument("--all", action="store_true", help="decode every image, not a sample")


def _add_weights(commands: Any) -> None:
    command = _command(
        commands, "import", _import, "weights of another library, for runs to start from"
    )
    command.add_argument("file", type=Path, help="torch.save, safetensors, msgpack or npz")
    command.add_argument("--workdir", required=True, type=Path, help="a new folder")
    command.add_argument(
        "--model",
        required=True,
        metavar="NAME[,OPTION=VALUE]",
        help="a name in tlx.models, as resnet50 or fixup_resnet,width=16",
    )
    command.add_argument("--key", help="where in the file the weights are, as state_dict")
    command.add_argument("--name", default="P", help="that records call it by (P)")
    command = _command(
        commands, "export", _export, "a run's weights as safetensors with PyTorch's names"
    )
    command.add_argument("--workdir", required=True, type=Path, help="of a run, or imported")
    command.add_argument("--step", default="last", help="last (the default), best, or a number")
    command.add_argument("--out", required=True, type=Path, help="a new file")
    command.add_argument(
        "--names", help="whose names: torchvision (the default) or timm, as the model has them"
    )


def _study(args: argparse.Namespace, overrides: list[str]) -> None:
    """Does what is left of a study and draws its page.

    The workdir holds study.json (the resolved config), runs/ (checkpoints and metrics),
    records/ (what was measured, npz and json) and report.html.

    What is asked: all that the runs allow, or the questions that are named,
      --config.questions="('interpolation', 'basin')"
    Options of a question, under its name (python -m pydoc tlx.studies.questions.basin has them):
      --config.basin.num_draws=64 --config.interpolation.num_alphas=51
    Other values at which P-T and RI-T are trained too (shuffle, train_size, target, init_step):
      --config.axes.shuffle="('pixel', 'block:8')" --config.replicates=3
    Further arms (S-T: random weights with the statistics of P's; C-T: from the mean of the P-T),
    and steps at which copies of runs part:
      --config.arms="('S-T', 'C-T')" --config.forks="(0, 100)"
    """
    from tlx import config
    from tlx.report import summary
    from tlx.studies import progress, resources, runner
    from tlx.studies.spec import StudySpec
    from tlx.train import distributed

    values = config.load(args.config, overrides)
    if "model" in values:
        raise ValueError(f"{args.config} is the config of one run; use tlx train")
    spec = config.build(StudySpec, values)
    if args.plan:
        from tlx.studies import outline

        found = outline.rows(spec, args.workdir)
        left = any(row.done < row.number for row in found)
        pace = outline.pace(spec) if left else outline.Pace(0.0, 0.0)
        print(outline.text(found, pace, args.workers or resources.workers() or 1))
        return
    distributed.initialize_if_cluster()
    workers = resources.workers() if args.workers is None else args.workers
    result = runner.run(spec, args.workdir, workers=workers)
    if not distributed.is_primary():
        return
    print(summary.text(result.records))
    print(f"\n{progress.clock(result.seconds)}; the report: {result.page}")


def _train(args: argparse.Namespace, overrides: list[str]) -> None:
    """Trains one model.

    The workdir holds config.json (the resolved config), metrics.jsonl, checkpoints/ and, at
    the end, result.json.
    """
    from tlx import config
    from tlx.studies import runner
    from tlx.train import distributed
    from tlx.train.spec import RunSpec

    values = config.load(args.config, overrides)
    if "pretrain" in values:
        raise ValueError(
            f"{args.config} is the config of a study; use tlx study, or name one of its runs, as "
            "configs/mini.py:scratch does"
        )
    spec = config.build(RunSpec, values)
    distributed.initialize_if_cluster()
    result = runner.run_one(spec, args.workdir)
    print(
        f"{result.name}: test accuracy {result.test['accuracy']:.4f} at step {result.step}, "
        f"best {result.best_test['accuracy']:.4f} at step {result.best_step}; {result.workdir}"
    )


def _init(args: argparse.Namespace, overrides: list[str]) -> None:
    """Writes a config for a study of what is transferred to your own images.

    Measures the images (how many, of which classes, mean and deviation of their pixels), chooses a
    model and steps that fit their size and the time, by a short trial on this machine, and says in
    comments what each line is for. The file runs as it is:
      tlx init --data=photos --source=drawings --minutes=30
      tlx study --config=study.py --workdir=runs/photos
    """
    from tlx.studies import progress, starter

    if overrides:
        raise ValueError("init takes no config: it writes one")
    made = starter.write(
        args.out,
        args.data,
        source=args.source,
        weights=args.weights,
        minutes=args.minutes,
        image_size=args.size,
    )
    print(
        f"{args.out}: {made.target.train:,} training and {made.target.test:,} test images of "
        f"{len(made.target.classes)} classes, {made.num_steps} steps a run, about "
        f"{progress.clock(made.seconds)}\n"
        f"next: tlx study --config={args.out} --workdir=runs/{Path(args.data).name}"
    )


def _audit(args: argparse.Namespace, overrides: list[str]) -> None:
    """Says in plain words what two checkpoints share and where they differ.

    From weights alone, in seconds: what changed, where most, and how (trained on, of low rank,
    noise, scaled, in another order, replaced); with a parent, whether they were made from it.
    With data and a model also: one basin or not, what the mean of the weights scores, which
    modules matter, where features differ, and on what both err.

    The folder --out gets audit.html, audit.json and each table as CSV and LaTeX.
      tlx audit a.pth b.pth --parent=base.pth --model=resnet50 --data=photos/test
      tlx audit a.npz b.npz --model=mine.nets:load --data=test.npz
    """
    from tlx.audit import data, page, run

    if overrides:
        raise ValueError("audit takes no config")
    paths = {"a": args.a, "b": args.b} | ({"parent": args.parent} if args.parent else {})
    is_terminal = sys.stderr.isatty()

    def tell(what: str) -> None:
        if is_terminal:
            print(f"\r\x1b[K{what} …", end="", file=sys.stderr, flush=True)

    found = run.run(
        paths,
        model=args.model,
        key=args.key,
        data_path=args.data,
        tell=tell,
        split=args.split,
        image_size=args.size,
        mean=args.mean or data.MEAN,
        std=args.std or data.STD,
        most=args.most,
    )
    tell("the page")
    made = page.write(found, args.out or Path("audit"))
    if is_terminal:
        print("\r\x1b[K", end="", file=sys.stderr)
    print(f"{found.text()}\n\nthe page: {made}")


def _data_list(args: argparse.Namespace, overrides: list[str]) -> None:
    """Every source, and what it lacks here."""
    from tlx.data import sources

    for name in sources.known():
        lacks = None if name.startswith("tfds/") else sources.unavailable(name, "train")
        print(f"{name}: {lacks}" if lacks else name)


def _data_prepare(args: argparse.Namespace, overrides: list[str]) -> None:
    """Prepares a data set without TensorFlow, or says how it is prepared."""
    from tlx.data import prepare

    print(prepare.prepare(args.name))


def _data_check(args: argparse.Namespace, overrides: list[str]) -> None:
    """Counts a split, decodes a sample of it (or all), and says what cannot be read.

    Ends with status 1 if something is wrong.
    """
    from tlx.data import check
    from tlx.report.draw.grid import grid

    is_terminal = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if is_terminal and (done % 100 == 0 or done == total):
            print(f"\r{done:,} of {total:,} decoded", end="\n" * (done == total), file=sys.stderr)

    found = check.check(args.name, args.split, args.folder, every=args.all, progress=progress)
    print(check.summary(found))
    if args.out and found.images:
        grid(found.images, found.titles).savefig(args.out, dpi=150)
        print(args.out)
    if found.bad:
        raise ValueError(f"{len(found.bad)} of {args.name}'s images cannot be read; they are above")


def _import(args: argparse.Namespace, overrides: list[str]) -> None:
    """Makes a workdir of one checkpoint from the weights in a file.

    Nothing in the file is executed, and every tensor in it and in the model is accounted for.
    Runs start from it by init_from.workdir, with a head of their own.
    """
    from tlx.train import importing

    if overrides:
        raise ValueError("import takes no config: say by --model what the weights are of")
    found = importing.import_weights(
        args.file,
        args.workdir,
        model=importing.parse_model(args.model),
        key=args.key,
        name=args.name,
    )
    for reason in sorted(set(found["skipped"].values())):
        first, *others = [name for name, why in found["skipped"].items() if why == reason]
        more = f" and {len(others)} more" if others else ""
        print(f"left out: {first}{more} ({reason}); all in {args.workdir / importing.FILE}")
    classes = f"{found['num_classes']} classes" if found["num_classes"] else "no head"
    print(
        f"{found['tensors']} tensors, {found['parameters']:,} numbers, {classes}, as "
        f"{found['model']['name']}; {args.workdir}"
    )


def _export(args: argparse.Namespace, overrides: list[str]) -> None:
    """Writes the weights of a step as safetensors, with PyTorch's names and layouts.

    In PyTorch: model.load_state_dict(safetensors.torch.load_file(FILE)).
    """
    from tlx.train import importing

    if overrides:
        raise ValueError("export takes no config: the workdir has its own")
    step = int(args.step) if args.step.isdigit() else args.step
    count = importing.export_weights(args.workdir, args.out, step=step, names=args.names)
    print(f"{count} tensors; {args.out}")


def _report(args: argparse.Namespace, overrides: list[str]) -> None:
    """Draws the page of a study again from the records in its workdir.

    Of several workdirs, prints what their studies found side by side, too: on several targets, say.
    """
    from tlx.report import export, summary
    from tlx.report.read.selection import problems
    from tlx.studies import runner

    if overrides:
        raise ValueError("report takes no config: it draws what the records hold")
    pages = [runner.redraw(workdir) for workdir in args.workdir]
    names = [workdir.name for workdir in args.workdir]
    if len(set(names)) < len(names):
        names = [str(workdir) for workdir in args.workdir]
    if args.export:
        for name, workdir in zip(names, args.workdir, strict=True):
            folder = args.export / name.replace("/", "_") if len(names) > 1 else args.export
            written = export.export(workdir / "records", folder)
            print(f"{folder}: {len(written)} files")
    for workdir in args.workdir:
        for problem in problems(workdir / "records"):
            print(f"tlx report: {problem}", file=sys.stderr)
    if len(pages) > 1:
        folders = {n: w / "records" for n, w in zip(names, args.workdir, strict=True)}
        print("\n\n".join(table.text() for table in summary.beside(folders)) + "\n")
    print(*pages, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
