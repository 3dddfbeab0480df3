"""Samples that compression treats differently, whatever the seed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kd_bench.results.records.measured import Exemplars


@dataclass(frozen=True)
class Exemplar:
    """A test sample whose most frequent prediction over the students is not the teacher's.

    ``votes`` counts the students that predict ``student``.
    """

    index: int
    target: int
    teacher: int
    student: int
    votes: int


def compression_identified(lists: Sequence[Exemplars]) -> list[Exemplar]:
    """Find the compression-identified exemplars of several students (seeds) of one teacher.

    They are the samples on which the most frequent prediction of the compressed models is not that of the original
    (Hooker et al. 2019, arXiv:1911.05248); among equally frequent classes the teacher's counts, then the lowest. A
    student that does not list a sample predicts what the teacher does. Lists that are cut off end at a confidence of
    the teacher: samples behind the earliest end are left out, since not every student's prediction is known there.
    """
    votes: dict[int, Counter[int]] = {}
    facts: dict[int, tuple[float, int, int]] = {}
    for each in lists:
        columns = (each.index, each.student, each.teacher_confidence, each.target, each.teacher)
        for index, student, confidence, target, teacher in zip(*columns, strict=True):
            votes.setdefault(index, Counter())[student] += 1
            facts[index] = (-confidence, target, teacher)
    ends = [(-each.teacher_confidence[-1], each.index[-1]) for each in lists if 0 < len(each.index) < each.total]
    found = []
    for index in sorted(votes, key=lambda index: (facts[index][0], index)):
        key, target, teacher = facts[index]
        votes[index][teacher] += len(lists) - votes[index].total()
        student = min(votes[index], key=lambda label: (-votes[index][label], label != teacher, label))
        if student != teacher and all((key, index) <= end for end in ends):
            found.append(Exemplar(index, target, teacher, student, votes[index][student]))
    return found
