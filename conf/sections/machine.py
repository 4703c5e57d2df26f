"""Types the config of devices, processes and the store, and of what a compiler for other devices is asked."""

import os
from dataclasses import dataclass
from typing import Optional

from conf.errors import EdgewiseError
from conf.sections.values import at_least, one_of


@dataclass
class Mesh:
    """Sets how many devices each mesh axis has; -1 takes what is left.

    `seed` trains or scores so many seeds in one process: `seed`, `seed` + 1, … The devices are cut into as many equal
    groups, one a seed, and the other axes are those of a group.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    seed: int = 1

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        at_least("mesh.seed", self.seed, 1)


@dataclass
class Hosts:
    """Joins several processes that train or score one cell together, each started with the same command.

    `auto`: as Slurm, a TPU pod, Kubernetes or Open MPI says. Or by hand: `coordinator`, HOST:PORT of the first process,
    how many `processes` there are, and which `process` this is, from 0. They wait for each other `timeout` seconds.
    """

    auto: bool = False
    coordinator: Optional[str] = None
    processes: Optional[int] = None
    process: Optional[int] = None
    timeout: int = 300

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        given = [self.coordinator, self.processes, self.process]
        if any(value is not None for value in given) and (self.auto or None in given):
            raise EdgewiseError(
                f"hosts.auto={self.auto} hosts.coordinator={self.coordinator} hosts.processes={self.processes} "
                f"hosts.process={self.process}: expected all of the last three, or hosts.auto=true alone"
            )
        if self.process is not None and self.processes is not None and not 0 <= self.process < self.processes:
            raise EdgewiseError(f"hosts.process={self.process}: expected a number below hosts.processes, from 0")
        at_least("hosts.timeout", self.timeout, 1)


@dataclass
class Tracking:
    """Says where runs and artifacts are kept: in the store at `root`, and with `backend: wandb` at W&B too.

    `~` at the start of `root` is the user's home, as in a shell.

    Where `entity`, `project` or `base_url` is null, W&B's own environment says it (WANDB_ENTITY, WANDB_PROJECT,
    WANDB_BASE_URL), else the API key's entity, the project edgewise and W&B's own server.
    """

    backend: str = "local"
    root: str = "runs"
    entity: Optional[str] = None
    project: Optional[str] = None
    base_url: Optional[str] = None
    group: Optional[str] = None

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        one_of("tracking.backend", self.backend, ("local", "wandb"))
        self.root = os.path.expanduser(self.root)


@dataclass
class Compile:
    """Gives `python -m train.compile` the shapes that the data would give.

    `rows` of a packed batch: by default one for each example, the most there can be. `label_length` is that of the
    longest label string with its EOS: by default what the tokenizer says, where `tokenizer.path` is given, else 8.
    `target_length` is by default one label string's, or `dataset.max_target_length` where there are no labels. `step`
    compiles one of the steps alone. `json` prints JSON.
    """

    rows: Optional[int] = None
    target_length: Optional[int] = None
    label_length: Optional[int] = None
    step: str = "all"
    json: bool = False

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        for key in ("rows", "target_length", "label_length"):
            at_least(f"compile.{key}", 1 if getattr(self, key) is None else getattr(self, key), 1)
        one_of("compile.step", self.step, ("all", "train", "score"))
