"""Hand-written training loops, and those of other libraries, on kd_bench's networks and batches.

Shapes: ``B`` batch, ``K`` classes, ``N`` training samples, ``D`` projection, ``M`` negatives.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.evaluation.opened import OpenedRun

Stages = list[Tensor]


class Networks:
    """What a hand-written loop has of the two networks: logits (B, K), stage maps and embeddings (B, D)."""

    def __init__(self, opened: OpenedRun) -> None:
        student, teacher = opened.pair.student, opened.pair.teacher
        assert teacher is not None
        self.student, self.teacher = student.network.train(), teacher.network.eval()
        self.mean, self.std = student.mean, student.std
        self.samples = len(opened.data.train)
        self.shapes = student.stage_shapes, teacher.stage_shapes


def staged(network: nn.Module, images: Tensor) -> tuple[Tensor, Stages, Tensor]:
    """Return logits, stages and embedding."""
    final, stages = network.forward_intermediates(images)  # type: ignore[operator]
    embedding = final.mean(dim=(2, 3))
    return network.fc(embedding) if hasattr(network, "fc") else network.get_classifier()(embedding), stages, embedding  # type: ignore[operator]


def kd_term(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    log_probabilities = F.log_softmax(student / temperature, dim=1)
    targets = F.softmax(teacher / temperature, dim=1)
    return F.kl_div(log_probabilities, targets, reduction="batchmean") * temperature**2


class kd(nn.Module):  # named as the method
    """``0.1 CE + 0.9 KD``."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()

    def forward(self, networks: Networks, images: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        with torch.no_grad():
            taught = networks.teacher(images)
        logits = networks.student(images)
        return 0.1 * F.cross_entropy(logits, targets) + 0.9 * kd_term(logits.float(), taught.float())


class fitnet(nn.Module):
    """``CE + 100 MSE`` of the third stage through a convolution and a batch norm."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        student, teacher = networks.shapes[0][2][0], networks.shapes[1][2][0]
        self.regressor = nn.Sequential(nn.Conv2d(student, teacher, 1), nn.BatchNorm2d(teacher), nn.ReLU())

    def forward(self, networks: Networks, images: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        with torch.no_grad():
            _, taught, _ = staged(networks.teacher, images)
        logits, stages, _ = staged(networks.student, images)
        hint = F.mse_loss(self.regressor(stages[2]).float(), taught[2].float())
        return F.cross_entropy(logits, targets) + 100 * hint


class at(nn.Module):
    """``CE + 1000 AT`` over all stages but the stem."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()

    def forward(self, networks: Networks, images: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        with torch.no_grad():
            _, taught, _ = staged(networks.teacher, images)
        logits, stages, _ = staged(networks.student, images)
        terms = [(attention(s) - attention(t)).pow(2).mean() for s, t in zip(stages[1:], taught[1:], strict=True)]
        return F.cross_entropy(logits, targets) + 1000 * torch.stack(terms).sum()


def attention(stage: Tensor) -> Tensor:
    return F.normalize(stage.float().pow(2).mean(dim=1).flatten(1), dim=1)


class crd(nn.Module):
    """``CE + 0.8 CRD`` with 16,384 negatives, scores by a product with the whole memory: the fastest we know."""

    NEGATIVES, SIZE, TEMPERATURE, MOMENTUM = 16_384, 128, 0.07, 0.5

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.student = nn.Linear(networks.shapes[0][-1][0], self.SIZE)
        self.teacher = nn.Linear(networks.shapes[1][-1][0], self.SIZE)
        self.memories = [F.normalize(torch.randn(networks.samples, self.SIZE), dim=1) for _ in range(2)]
        self.normalisers = [-1.0, -1.0]

    def forward(self, networks: Networks, images: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        with torch.no_grad():
            _, _, taught = staged(networks.teacher, images)
        logits, _, embedding = staged(networks.student, images)
        with torch.autocast("cpu", enabled=False):
            rows = [
                F.normalize(self.student(embedding.float()), dim=1),
                F.normalize(self.teacher(taught.float()), dim=1),
            ]
            drawn = torch.randint(networks.samples, (len(index), 1 + self.NEGATIVES))
            drawn[:, 0] = index
            loss = self.contrast(rows[0], 1, drawn) + self.contrast(rows[1], 0, drawn)
        for memory, row in zip(self.memories, rows, strict=True):
            moved = self.MOMENTUM * memory[index] + (1 - self.MOMENTUM) * row.detach()
            memory[index] = F.normalize(moved, dim=1)
        return F.cross_entropy(logits, targets) + 0.8 * loss

    def contrast(self, rows: Tensor, which: int, drawn: Tensor) -> Tensor:
        memory = self.memories[which]
        scores = ((rows @ memory.clone().T).gather(1, drawn) / self.TEMPERATURE).exp()
        if self.normalisers[which] < 0:
            self.normalisers[which] = float(scores.detach().mean()) * len(memory)
        scores, noise = scores / self.normalisers[which], self.NEGATIVES / len(memory)
        positive, negative = scores[:, 0] / (scores[:, 0] + noise + 1e-7), noise / (scores[:, 1:] + noise + 1e-7)
        return -(positive.log() + negative.log().sum(dim=1)).mean()


METHODS: dict[str, Callable[[Networks], nn.Module]] = {"kd": kd, "fitnet": fitnet, "at": at, "crd": crd}


class Loop:
    """A training loop over kd_bench's batches."""

    def __init__(self, opened: OpenedRun) -> None:
        self.opened, self.data, self.config = opened, opened.data, opened.config
        self.networks = Networks(opened)

    def batches(self, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield normalised augmented images, targets and positions: order and augmentation are kd_bench's."""
        data, order = (
            self.data,
            self.data.sampler(self.data.train.targets, self.data.batch_size, self.data.seed, 0, epoch),
        )
        for index in order:
            images = data.augmentation(data.train.images[index], index, data.seed, epoch)
            yield (images.float() / 255 - self.networks.mean) / self.networks.std, data.train.targets[index], index

    def optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)

    def step(self, images: Tensor, targets: Tensor, index: Tensor) -> None:
        raise NotImplementedError

    def seconds(self, warm_up: int, count: int) -> float:
        """Return the CPU seconds of a step."""
        batches = self.batches()
        for _ in range(warm_up):
            self.step(*next(batches))
        started = time.process_time()
        for _ in range(count):
            self.step(*next(batches))
        return (time.process_time() - started) / count


class BareLoop(Loop):
    """The loop that one writes by hand.

    Args:
        fast: bf16 and channels_last, as ``trainer=fast``.
    """

    def __init__(self, opened: OpenedRun, method: str, fast: bool) -> None:
        super().__init__(opened)
        torch.manual_seed(0)
        self.method, self.fast = METHODS[method](self.networks), fast
        self.sgd = self.optimizer([*self.networks.student.parameters(), *self.method.parameters()])
        if fast:
            for network in (self.networks.student, self.networks.teacher):
                network.to(memory_format=torch.channels_last)

    def step(self, images: Tensor, targets: Tensor, index: Tensor) -> None:
        if self.fast:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.fast):
            loss = self.method(self.networks, images, targets, index)
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()

    def epochs(self, warm_up: int, count: int) -> float:
        """Return the CPU seconds of an epoch: training, validation in one batch, the schedule."""
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.sgd, T_max=warm_up + count)
        history = []
        for epoch in range(warm_up + count):
            if epoch == warm_up:
                started = time.process_time()
            for batch in self.batches(epoch):
                self.step(*batch)
            schedule.step()
            history.append(self.validated())
        return (time.process_time() - started) / count

    @torch.no_grad()
    def validated(self) -> tuple[float, float]:
        split, student = self.data.validation, self.networks.student.eval()
        images = (split.images[:].float() / 255 - self.networks.mean) / self.networks.std
        logits = student(images)
        student.train()
        loss = float(F.cross_entropy(logits, split.targets))
        return float((logits.argmax(1) == split.targets).double().mean()), loss


class TimmLoop(Loop):
    """timm's task for the distillation of logits."""

    def __init__(self, opened: OpenedRun) -> None:
        super().__init__(opened)
        from timm.task import LogitDistillationTask

        for network in (self.networks.student, self.networks.teacher):
            network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
            network.in_chans = 3  # which the task asks for
        self.task = LogitDistillationTask(
            self.networks.student,
            self.networks.teacher,
            nn.CrossEntropyLoss(),
            task_loss_weight=0.1,
            distill_loss_weight=0.9,
            temperature=4.0,
            verbose=False,
        )
        self.sgd = self.optimizer(list(self.networks.student.parameters()))

    def step(self, images: Tensor, targets: Tensor, index: Tensor) -> None:
        loss = self.task(images, targets)["loss"]
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()


class TorchdistillLoop(Loop):
    """torchdistill's box, configured for the distillation of logits."""

    def __init__(self, opened: OpenedRun) -> None:
        super().__init__(opened)
        from torchdistill.core.distillation import get_distillation_box

        paths = {"student_module_path": ".", "teacher_module_path": "."}
        ends = {"student_module_io": "output", "teacher_module_io": "output"}
        loss = {
            "key": "KDLoss",
            "kwargs": {**paths, **ends, "temperature": 4.0, "alpha": 0.9, "reduction": "batchmean"},
        }
        config: dict[str, Any] = {
            "num_epochs": 1,
            "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
            "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
            "optimizer": {"key": "SGD", "kwargs": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}},
            "criterion": {
                "key": "WeightedSumLoss",
                "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}},
            },
        }
        device = torch.device("cpu")
        self.box = get_distillation_box(
            self.networks.teacher, self.networks.student, {}, config, device, None, False, 1
        )

    def step(self, images: Tensor, targets: Tensor, index: Tensor) -> None:
        loss = self.box.forward_process(images, targets, {})
        self.box.post_forward_process(loss)
