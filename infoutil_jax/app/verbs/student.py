"""`infoutil student`, as `cli.VERBS` describes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from infoutil_jax.app.config import Stage
from infoutil_jax.app.flags import Flat, Group, say_defaults
from infoutil_jax.app.options import DeviceCount, Logs, SourceOptions
from infoutil_jax.errors import InputError
from infoutil_jax.training.config import StudentConfig


@dataclass(frozen=True)
class TrainStudent:
    """Options of `infoutil student`."""

    distilled: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DISTILLED")]
    """Folder of `infoutil distill`."""
    data: Annotated[SourceOptions, Group]
    digest: str | None = None
    """Of the set that it has to be, as `infoutil verify` prints it: another one is refused."""
    teacher: Path | None = None
    """Folder of `infoutil teacher`; needed where labels are online."""
    label_stage: Stage = "auto"
    """The teacher that labels the views."""
    config: Annotated[StudentConfig, Flat] = StudentConfig()
    devices: DeviceCount = "all"
    """Of this machine, that share the seeds."""
    logs: Annotated[Logs, Group] = Logs()

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax import parallel
        from infoutil_jax.app.accounts import accuracy_table, protocol_in_words
        from infoutil_jax.app.forecast import forecast
        from infoutil_jax.app.pipeline import choose_teacher
        from infoutil_jax.app.students import kept_beside, summarise, train_students
        from infoutil_jax.data.distilled import DistilledDataset
        from infoutil_jax.training.teacher import load_teachers

        distilled = DistilledDataset.load(self.distilled, digest=self.digest)
        student = self.config.asked(distilled.manifest.get("training", {}))
        if self.teacher is None and student.labels == "online":
            raise InputError("online labels need --teacher; or choose --labels stored or hard.")
        budget = distilled.said("images_per_class")
        teacher = None
        if self.teacher:
            teachers, stage = load_teachers(self.teacher), self.label_stage
            if stage == "auto":  # the one that labelled the set, if it is there
                labelled = distilled.said("label_teacher", "stage")
                stage = labelled if labelled in teachers else stage
            teacher = choose_teacher(teachers, stage, budget)
        devices = parallel.devices_of(self.devices)
        source = self.data.open(tuple(distilled.manifest["image_shape"]))
        shown = budget * (distilled.soft_labels.shape[1] if student.partition else 1)
        print(forecast(source, shown, 1, None, student))
        if words := protocol_in_words(student):
            print(words)
        # On however many devices, and wherever it is logged, it is the same work.
        command = repr(replace(self, devices="all", logs=Logs()))
        with kept_beside(self.distilled, command) as kept:
            result = train_students(
                distilled, source, teacher, self.config, devices=devices, folder=kept
            )
            print(accuracy_table({str(self.distilled): {budget: summarise(result)["top1"]}}))


say_defaults(TrainStudent)
