"""Threads of compiled work, and memory that is used again."""

import subprocess
import sys
import threading

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gradconv.nn import MeshFreeConv1d, MeshFreeConv2d
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
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=120)
    assert ended.returncode == 0


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


@pytest.mark.parametrize("shape", [(64, 48), (30, 33), (96,)])
def test_torch_path_gives_the_same_on_any_number_of_threads(torch_threads, shape):
    dim = len(shape)
    layer = [MeshFreeConv1d, MeshFreeConv2d][dim - 1](8, 8, path="torch", widths=(0.05, 0.1))
    x = torch.randn(3, 8, *shape, requires_grad=True)
    found = []
    for number in (1, 2, 5):
        torch_threads(number)
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        y.square().sum().backward()
        found.append([y.detach(), x.grad, *(p.grad for p in layer.parameters())])
    for others in found[1:]:
        for a, b in zip(found[0], others, strict=True):
            # Products of matrices may go another way in torch itself.
            torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6 * float(a.abs().max()))


def test_shared_operations_keep_the_modes_of_the_caller(torch_threads):
    torch_threads(2)
    seen = []

    def work(begin, end):
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    like = torch.zeros(1)
    with torch.no_grad():
        threads.share_operations(work, 8, like)
    assert set(seen) == {(False, False)}
    seen.clear()
    with torch.inference_mode():
        threads.share_operations(work, 8, like)
        layer = MeshFreeConv2d(2, 2, path="torch")
        assert layer(torch.zeros(64, 2, 128, 128)).is_inference()  # several pieces
    assert set(seen) == {(False, True)}
    seen.clear()
    threads.share_operations(work, 8, like)  # derivatives are recorded by one thread
    assert seen == [(True, False)]
    with FlopCounterMode(display=False), torch.no_grad():
        seen.clear()
        threads.share_operations(work, 8, like)
        assert len(seen) == 1
