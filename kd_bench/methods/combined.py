"""Several methods' terms in one loss, written in YAML alone."""

from collections.abc import Callable, Iterator
from itertools import chain

from torch import Tensor, nn

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress, Requirements, TrainingSet
from kd_bench.models.features import FeatureTap, Outputs


def _merged(parts: list[Requirements]) -> Requirements:
    kinds = {part.teacher for part in parts} - {"none"}
    if len(kinds) > 1:
        raise ConfigError(f"method.terms: methods with different teachers cannot be combined: {sorted(kinds)}")
    batches = {(part.views, part.strong_views, part.rotations, part.sampler) for part in parts}
    if len(batches) > 1:
        raise ConfigError(f"method.terms: methods with different batches cannot be combined: {sorted(batches)}")
    ((views, strong_views, rotations, sampler),) = batches
    return Requirements(
        teacher=next(iter(kinds), "none"),
        batch_statistics=any(part.batch_statistics for part in parts),
        views=views,
        strong_views=strong_views,
        rotations=rotations,
        sampler=sampler,
        pre_activations=any(part.pre_activations for part in parts),
        min_classes=max(part.min_classes for part in parts),
        memory=any(part.memory for part in parts),
        soft_targets=all(part.soft_targets for part in parts),
        student_has=tuple(dict.fromkeys(chain.from_iterable(part.student_has for part in parts))),
        teacher_has=tuple(dict.fromkeys(chain.from_iterable(part.teacher_has for part in parts))),
    )


class Combined(Method):
    """The sum of the terms of several methods; terms of one name (such as ``ce``) are added up.

    Args:
        terms: name to method. In YAML each is a whole method node, usually taken over from ``conf/method`` with other
            weights: see ``kd_at.yaml``.

    Raises:
        ConfigError: fewer than two methods, different kinds of teacher or batch, or more than one that pretrains,
            predicts in its own way, averages weights, names assistants or chooses what the networks see.
    """

    family = "combination"

    def __init__(self, terms: dict[str, Method]) -> None:
        super().__init__()
        if len(terms) < 2:
            raise ConfigError(f"method.terms={sorted(terms)}: a combination needs at least two methods")
        self.terms = nn.ModuleDict(terms)
        self.paper = "; ".join(dict.fromkeys(method.paper for method in terms.values()))
        self.requires = _merged([method.requires for method in terms.values()])
        parts = [m.reads for m in terms.values() if m.requires.teacher != "none"]
        self.reads = None if None in parts else tuple(sorted({name for part in parts for name in part or ()}))
        self.pretraining = [m for m in terms.values() if m.pretrain_epochs]
        self.predicting = [m for m in terms.values() if type(m).predict is not Method.predict]
        self.making_teacher = [
            m for m in terms.values() if m.assistants or type(m).teacher_decay is not Method.teacher_decay
        ]
        self.observing = [m for m in terms.values() if m.chooses_images]
        if max(map(len, (self.pretraining, self.predicting, self.making_teacher, self.observing))) > 1:
            raise ConfigError(
                "method.terms: at most one method may pretrain, one change the prediction, one make its teacher, and "
                "one choose what the networks see"
            )
        self.assistants = self.making_teacher[0].assistants if self.making_teacher else ()
        self.pretrain_epochs = sum(m.pretrain_epochs for m in self.pretraining)

    @property
    def chooses_images(self) -> bool:
        return bool(self.observing)

    def _methods(self) -> dict[str, Method]:
        return {name: method for name, method in self.terms.items() if isinstance(method, Method)}

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        for method in self._methods().values():
            method.build_adapters(student, teacher, data)

    def prepare(self, training_set: TrainingSet) -> None:
        for method in self._methods().values():
            method.prepare(training_set)

    def teacher_decay(self, progress: Progress) -> float:
        return self.making_teacher[0].teacher_decay(progress)

    def observe(
        self, student: FeatureTap, teacher: Callable[..., Outputs] | None, images: Tensor
    ) -> tuple[Outputs, Outputs | None]:
        (observing, *_) = [*self.observing, super()]
        return observing.observe(student, teacher, images)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for method in self._methods().values():
            for name, value in method(student, teacher, batch, progress).items():
                total[name] = total[name] + value if name in total else value
        return total

    def pretrain_terms(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return self.pretraining[0].pretrain_terms(student, teacher, batch, progress)

    def pretrain_parameters(self, student: FeatureTap) -> Iterator[nn.Parameter]:
        return self.pretraining[0].pretrain_parameters(student)

    def predict(self, student: Outputs) -> Tensor:
        return self.predicting[0].predict(student) if self.predicting else student.logits

    def test_time_modules(self) -> list[nn.Module]:
        return list(chain.from_iterable(method.test_time_modules() for method in self._methods().values()))
