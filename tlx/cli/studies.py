"""Commands about studies and runs."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from tlx.cli import _commands
from tlx.core import cache


def add(commands: Any) -> None:
    """Adds them."""
    for name, run, summary in (
        ("study", _study, "a whole study: runs, analyses, page"),
        ("train", _train, "one training run"),
        ("report", _report, "draw a study's page again from its records"),
    ):
        command = _commands.command(commands, name, run, summary)
        if name != "report":
            command.add_argument(
                "--config",
                required=True,
                metavar="FILE[:ARG]",
                help="a Python file with get_config(arg); set single values by "
                "--config.key.subkey=VALUE",
            )
            command.add_argument(
                "--workdir", required=True, type=_commands.place, help="where everything is written"
            )
        else:
            command.add_argument(
                "--workdir",
                required=True,
                type=_commands.place,
                nargs="+",
                help="of one or several studies",
            )
            command.add_argument(
                "--export",
                type=_commands.place,
                metavar="DIR",
                help="a folder for every figure as SVG and PDF and every table as CSV and LaTeX "
                "(of several studies a folder each in it)",
            )
        if name != "report":
            command.add_argument(
                "--log-to",
                type=_names,
                default=(),
                metavar="TRACKER[,TRACKER]",
                help="where the numbers of metrics.jsonl and telemetry.jsonl go besides: "
                "tensorboard (to tensorboard/ in a run's folder), wandb (Weights & Biases)",
            )
        if name == "train":
            command.add_argument(
                "--trace",
                type=_trace,
                metavar="STEP:STEPS",
                help="a profiler trace of STEPS steps after step STEP, in trace/ of the workdir, "
                "for xprof (.xplane.pb) and ui.perfetto.dev (perfetto_trace.json.gz)",
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
            command.add_argument(
                "--on",
                choices=("here", "slurm"),
                default="here",
                help="where it is done: by this process and those that it starts (here), or by "
                "jobs that are submitted to a Slurm cluster from its login node",
            )
            command.add_argument(
                "--slurm",
                action="append",
                default=[],
                metavar="KEY=VALUE,…",
                help="of each job: partition, account, qos, constraint, reservation, exclude, "
                "nodelist, time (4:00:00), gpus (none), cpus (1), mem; runs that it does (1, "
                "without gpus as many as cpus); jobs of one array that run in parallel (256)",
            )
    command = _commands.command(
        commands, "status", _status, "what of a study or a run is done, running, waiting, failed"
    )
    command.add_argument(
        "--workdir", required=True, type=_commands.place, help="of a study or a run"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object, of all parts")
    command = _commands.command(
        commands, "init", _init, "a first config for a study on your own images"
    )
    command.add_argument(
        "--data", required=True, help="a folder with train/CLASS/image and test/CLASS/image"
    )
    command.add_argument("--source", help="another such folder, on which P is trained")
    command.add_argument("--weights", help="or a workdir of tlx import, from which P is taken")
    command.add_argument(
        "--minutes", type=float, default=30.0, help="that the study may take here, about (30)"
    )
    command.add_argument("--size", type=int, help="of the images, in pixels (32, or 96 of weights)")
    command.add_argument(
        "--out", type=_commands.place, default=Path("study.py"), help="a new file (study.py)"
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split(",")))


def _trace(text: str) -> Any:
    """The steps that --trace names."""
    from tlx.train.tracing import Trace

    found = re.fullmatch("([0-9]{1,18}):([0-9]{1,18})", text)
    if found is None or not int(found[2]):
        raise argparse.ArgumentTypeError(f"expected STEP:STEPS, as 100:5, got {text!r}")
    return Trace(int(found[1]), int(found[2]))


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
    On the login node of a Slurm cluster it can submit jobs, and ends; tlx status says how it is
    with them. A job does one run (without gpus as many as its cpus) or some questions, waits for
    what it needs, and is put back into the queue before its time is over. The command given again
    submits what is neither done nor in the queue; with --plan it says which jobs it would submit,
    and what they cost:
      --on=slurm --slurm=partition=gpu,gpus=1,cpus=8,mem=32G,time=2:00:00
    """
    if args.on == "here" and not args.plan:
        cache.keep_programs()
    from tlx import config
    from tlx.report import summary
    from tlx.studies import progress, resources, runner
    from tlx.studies.spec import StudySpec
    from tlx.train import distributed

    values = config.load(args.config, overrides)
    if "model" in values:
        raise ValueError(f"{args.config} is the config of one run; use tlx train")
    spec = config.build(StudySpec, values)
    if args.slurm and args.on != "slurm":
        raise ValueError("--slurm is for --on=slurm")
    if args.on == "slurm":
        _submit(spec, args)
        return
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"workers: expected at least 1 process, got {args.workers}")
    if args.plan:
        from tlx.studies import outline
        from tlx.studies import workdir as files

        files.require(spec, args.workdir)
        found = outline.rows(spec, args.workdir)
        left = any(row.done < row.number for row in found)
        pace = outline.pace(spec) if left else outline.Pace(0.0, 0.0)
        print(outline.text(found, pace, args.workers or resources.workers() or 1))
        return
    distributed.initialize_if_cluster()
    workers = resources.workers() if args.workers is None else args.workers
    result = runner.run(
        spec,
        args.workdir,
        workers=workers,
        log_to=args.log_to,
        config_file=config.absolute(args.config),
    )
    if not distributed.is_primary():
        return
    print(summary.text(result.records))
    print(f"\n{progress.clock(result.seconds)}; the report: {result.page}")


def _submit(spec: Any, args: argparse.Namespace) -> None:
    from tlx import config
    from tlx.studies import outline, sbatch, slurm

    given = sbatch.parse(args.slurm)
    if args.workers is not None:
        raise ValueError("--workers is for --on=here; with --on=slurm say --slurm=cpus=N")
    if not args.plan:
        made = slurm.submit(
            spec,
            args.workdir,
            given,
            log_to=args.log_to,
            config_file=config.absolute(args.config),
        )
        print(f"{made.summary('submitted')}; tlx status --workdir={args.workdir}")
        return
    made = slurm.plan(spec, args.workdir, given)
    if made.arrays:
        cost = outline.device_hours(outline.rows(spec, args.workdir), outline.pace(spec))
        print(f"{made.text()}\n\neach job: {given.text()}\n{cost}")
    print(made.summary("to be submitted"))


def _status(args: argparse.Namespace, overrides: list[str]) -> int:
    """What of a study or a run is done, running, waiting or failed, and why.

    Of a study that is done here by one command or on a cluster by many jobs, from any machine that
    sees its workdir; how jobs are is asked of Slurm. Writes nothing.

    exit status: 0 all is done; 1 something failed, or there is no study; 3 neither.
    """
    from tlx.studies import status

    if overrides:
        raise ValueError("status takes no config: it reads what is in the workdir")
    found = status.of(args.workdir)
    print(json.dumps(found.json()) if args.json else found.text())
    return found.exit_status


def _train(args: argparse.Namespace, overrides: list[str]) -> None:
    """Trains one model.

    The workdir holds config.json (the resolved config), metrics.jsonl, telemetry.jsonl (where the
    time went), checkpoints/ and, at the end, result.json.

    At the end two lines say how fast it was: images a second and the time of a step, the share of
    training in which the device waited for data, the seconds of compilation; then goodput, the
    share of all time since the first start that went into steps which were kept, and where the rest
    went.
      tlx train --config=configs/mini.py:scratch --workdir=runs/scratch --log-to=tensorboard
      tlx train --config=configs/mini.py:scratch --workdir=runs/traced --trace=50:5
    """
    cache.keep_programs()
    from tlx import config
    from tlx.studies import runner
    from tlx.train import distributed, telemetry, tracing
    from tlx.train.spec import RunSpec
    from tlx.train.workdir import RESULT_FILE

    values = config.load(args.config, overrides)
    if "pretrain" in values:
        raise ValueError(
            f"{args.config} is the config of a study; use tlx study, or name one of its runs, as "
            "configs/mini.py:scratch does"
        )
    spec = config.build(RunSpec, values)
    distributed.initialize_if_cluster()
    was_done = (args.workdir / RESULT_FILE).exists()
    result = runner.run_one(spec, args.workdir, log_to=args.log_to, trace=args.trace)
    if not distributed.is_primary():
        return
    print(
        f"{result.name}: test accuracy {result.test['accuracy']:.4f} at step {result.step}, "
        f"best {result.best_test['accuracy']:.4f} at step {result.best_step}; {result.workdir}"
    )
    if told := telemetry.summary(telemetry.read(args.workdir)):
        print(told)
    if args.trace is not None and was_done:
        print(
            "the run was done before, so nothing was traced; choose another --workdir to trace it"
        )
    elif args.trace is not None and (args.workdir / tracing.FOLDER).exists():
        print(f"the trace: {args.workdir / tracing.FOLDER}")


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
