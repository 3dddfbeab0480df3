"""Where a run came from: git is asked, and nothing of the checkout or of the environment runs."""

import subprocess
from pathlib import Path

import pytest

from kd_bench.evaluation import machine


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file").write_text("1")
    git(folder, "add", "file")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "--message=x")
    monkeypatch.setattr(machine, "CHECKOUT", folder)
    return folder


@pytest.fixture
def evil(tmp_path) -> Path:
    """A program that leaves ``canary`` behind."""
    path = tmp_path / "evil"
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\n")
    path.chmod(0o755)
    return path


def test_commit_and_changes_are_those_of_the_checkout(checkout):
    code = machine.code.__wrapped__()
    assert (code.commit, code.dirty) == (git(checkout, "rev-parse", "HEAD"), False)
    (checkout / "file").write_text("2")
    assert machine.code.__wrapped__().dirty is True


@pytest.mark.parametrize("key", ["core.fsmonitor", "core.hooksPath", "core.pager", "pager.status", "diff.external"])
def test_settings_of_the_environment_run_nothing(checkout, evil, monkeypatch, key):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", key)
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(evil))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'{key}'='{evil}'")
    monkeypatch.setenv("GIT_PAGER", str(evil))
    (checkout / "file").write_text("2")
    assert machine.code.__wrapped__().dirty is True
    assert not (evil.parent / "canary").exists()


def test_another_repository_of_the_environment_is_not_asked(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    code = machine.code.__wrapped__()
    assert code.dirty is False
    assert code.commit is not None


def test_programs_that_the_repository_names_do_not_run(checkout, evil):
    hooks = evil.parent / "hooks"
    hooks.mkdir()
    (hooks / "post-index-change").write_text(evil.read_text())
    (hooks / "post-index-change").chmod(0o755)
    git(checkout, "config", "core.hooksPath", str(hooks))
    git(checkout, "config", "core.fsmonitor", str(evil))
    (checkout / "file").write_text("1")  # another time, the same content: git would like to write its index
    assert machine.code.__wrapped__().dirty is False
    assert not (evil.parent / "canary").exists()


@pytest.mark.parametrize("slow", ["rev-parse", "status"])
def test_a_git_that_is_too_slow_tells_nothing(checkout, monkeypatch, slow):
    """Not half of it: a commit of which nobody knows whether anything differs is none that leads to the code."""
    run = subprocess.run

    def late(command, **options):
        if slow in command:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", late)
    code = machine.code.__wrapped__()
    assert (code.commit, code.dirty) == (None, None)
