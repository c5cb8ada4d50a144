"""Threads of compiled work, and memory that is used again."""

import subprocess
import sys
import threading

import pytest
import torch

from gradconv.nn.engine import buffers, threads


@pytest.fixture(params=["OpenMP", "pool"])
def torch_threads(request, monkeypatch):
    """Sets how many threads torch has; the kernels' are torch's or a pool's."""
    if request.param == "pool":
        monkeypatch.setattr(threads, "_parallel", lambda: None)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 64])
def test_work_is_shared_once_each(torch_threads, number, count):
    done = []
    torch_threads(number)
    threads.share(lambda begin, end: done.extend(range(begin, end)), count)
    assert sorted(done) == list(range(count))


def test_several_threads_take_part(torch_threads):
    torch_threads(3)
    # Each range waits until all threads have one.
    barrier = threading.Barrier(3, timeout=60)
    names, lock = set(), threading.Lock()

    def work(begin, end):
        with lock:
            new = threading.get_ident() not in names
            names.add(threading.get_ident())
        if new:
            barrier.wait()

    threads.share(work, 12)
    assert len(names) == 3


@pytest.mark.parametrize("wrong", [0, 9])
def test_an_error_in_shared_work_comes_out(torch_threads, wrong):
    def work(begin, end):
        if begin <= wrong < end:
            raise ZeroDivisionError

    torch_threads(3)
    with pytest.raises(ZeroDivisionError):
        threads.share(work, 10)


def test_a_forked_process_has_threads_of_its_own():
    code = """
import os, torch
from gradconv.nn.engine import threads
torch.set_num_threads(2)
done = []
work = lambda begin, end: done.extend(range(begin, end))
threads.share(work, 8)
torch.ones(10**6).exp_()
child = os.fork()
if child == 0:
    threads.share(work, 8)
    os._exit(0 if sorted(done) == sorted([*range(8), *range(8)]) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


def test_memory_is_used_again_when_its_tensor_is_gone():
    like = torch.zeros(1)
    first = buffers.empty((3, 2**19), like)
    address, kept = first.data_ptr(), buffers.kept()
    assert address % 64 == 0
    assert first.shape == (3, 2**19)
    assert first.dtype == torch.float32
    view = first[1:]
    del first
    assert buffers.kept() == kept  # a view still holds it
    other = buffers.empty((3, 2**19), like)
    assert other.data_ptr() != address
    del view
    assert buffers.kept() > kept
    assert buffers.empty((3, 2**18), like.double()).data_ptr() == address  # any of its size


def test_not_too_much_memory_is_kept():
    like = torch.zeros(1)
    for size in (2**21, 2**22, 2**23):
        many = [buffers.empty((size,), like) for _ in range(6)]
        del many
        assert 0 < buffers.kept() <= 2**26
    kept = buffers.kept()
    large = buffers.empty((2**25,), like)
    del large
    assert buffers.kept() == kept
