"""Commands about weights of other libraries."""

import argparse
from typing import Any

from tlx.cli import _commands


def add(commands: Any) -> None:
    """Adds them."""
    command = _commands.command(
        commands, "import", _import, "weights of another library, for runs to start from"
    )
    command.add_argument(
        "file", type=_commands.place, help="torch.save, safetensors, msgpack or npz"
    )
    command.add_argument("--workdir", required=True, type=_commands.place, help="a new folder")
    command.add_argument(
        "--model",
        required=True,
        metavar="NAME[,OPTION=VALUE]",
        help="a name in tlx.models, as resnet50 or fixup_resnet,width=16",
    )
    command.add_argument("--key", help="where in the file the weights are, as state_dict")
    command.add_argument("--name", default="P", help="that records call it by (P)")
    command = _commands.command(
        commands, "export", _export, "a run's weights as safetensors with PyTorch's names"
    )
    command.add_argument(
        "--workdir", required=True, type=_commands.place, help="of a run, or imported"
    )
    command.add_argument("--step", default="last", help="last (the default), best, or a number")
    command.add_argument("--out", required=True, type=_commands.place, help="a new file")
    command.add_argument(
        "--names", help="whose names: torchvision (the default) or timm, as the model has them"
    )


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
