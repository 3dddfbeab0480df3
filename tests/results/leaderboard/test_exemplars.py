"""The images that the seeds of a row usually see otherwise than the teacher, as CSV."""

import csv
import io
from collections import Counter

import numpy as np
from support.records import measured_content, record_content

from kd_bench.results.leaderboard.exemplars import exemplars_text
from kd_bench.results.records.record import Record

from .test_text import leaderboard_of

CLASSES = 4
NAMES = ("a", "b", "c", "d")


def predicted(seed, teacher):
    """Three students in four agree with the teacher on an image."""
    random = np.random.RandomState(seed)
    return np.where(random.rand(len(teacher)) < 0.7, teacher, random.randint(CLASSES, size=len(teacher)))


def record(method, seed, students, teacher, targets, confidence, **changes):
    content = measured_content(record_content(method, seed, **changes))
    order = sorted(np.flatnonzero(students != teacher), key=lambda index: -confidence[index])
    for selected in content["metrics"].values():
        selected["exemplars"] = {
            "total": len(order),
            "index": [int(index) for index in order],
            **{
                name: [int(values[index]) for index in order]
                for name, values in (("target", targets), ("teacher", teacher), ("student", students))
            },
            "teacher_confidence": [float(confidence[index]) for index in order],
        }
    return Record.model_validate(content, strict=False)


def rows(*records):
    return list(csv.DictReader(io.StringIO(exemplars_text(leaderboard_of(records)))))


def test_they_are_the_images_whose_most_frequent_class_is_not_the_teachers():
    random = np.random.RandomState(7)
    teacher, targets = random.randint(CLASSES, size=(2, 200))
    confidence = random.permutation(200) / 200
    students = np.array([predicted(seed, teacher) for seed in range(5)])
    records = [record("kd", seed, students[seed], teacher, targets, confidence) for seed in range(5)]
    expected = {}
    for index, votes in enumerate(students.T):
        frequency = Counter(votes.tolist())
        most = max(frequency.values())
        modes = sorted(label for label, number in frequency.items() if number == most)
        if teacher[index] not in modes:
            expected[index] = (NAMES[targets[index]], NAMES[teacher[index]], NAMES[modes[0]], most)
    found = rows(*records)
    assert len(expected) > 5
    columns = ("class", "teacher_predicts", "students_predict")
    assert {
        int(row["test_image"]): (*(row[name] for name in columns), int(row["students_that_do"])) for row in found
    } == expected
    assert [int(row["test_image"]) for row in found] == sorted(expected, key=lambda index: -confidence[index])
    assert {(row["method"], row["teacher"], row["seeds"]) for row in found} == {("kd", "wide", "5")}


def test_of_fewer_than_three_seeds_or_lists_nothing_is_said():
    teacher, targets, confidence = np.zeros(9, int), np.ones(9, int), np.arange(9) / 10
    students = np.arange(9) % 2
    records = [record("kd", seed, students, teacher, targets, confidence) for seed in range(3)]
    assert len(rows(*records)) == 4
    assert rows(*records[:2]) == []
    content = record_content("kd", 7)
    without = Record.model_validate(content, strict=False)
    assert rows(*records, without) == []


def test_hostile_names_and_labels_stay_text():
    teacher, targets, confidence = np.zeros(2, int), np.array([1, 99]), np.array([0.9, 0.8])
    records = [record("=cmd()", seed, np.ones(2, int), teacher, targets, confidence) for seed in range(3)]
    found = rows(*records)
    assert [(row["method"], row["class"]) for row in found] == [("'=cmd()", "b"), ("'=cmd()", "99")]
