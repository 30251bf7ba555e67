"""Threads of this process: how many torch computes with, and pieces of work side by side in threads."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeVar

Worker, Item, Result = TypeVar("Worker"), TypeVar("Item"), TypeVar("Result")
AHEAD = 2  # results per worker that may wait to be taken


def use_threads(count: int) -> None:
    """torch computes with so many threads in this process, or fewer where OMP_NUM_THREADS says so: threads
    that have to wait for a core make every small operation wait for them, so whoever shares a machine sets
    it.
    """
    import torch

    limit = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(min(count, int(limit)) if limit.isdigit() and int(limit) else count)


def side_by_side(
    work: Callable[[Worker, Item], Result], items: Iterable[Item], workers: Sequence[Worker]
) -> Iterator[Result]:
    """`work(worker, item)` for every item, in their order, on so many threads as there are workers.

    Each thread has one worker to itself and its share of torch's threads. Threads that share small operations
    wait for each other at every one of them (on a small model two are a quarter faster than one); threads
    with work of their own do not (two take little more than half the time of one), and where each has one
    thread of torch, what they compute does not depend on how many there are.

    Args:
        work: what is done with an item; it sees the context variables of the caller, and makes an autograd
            graph where the caller would.
        items: they are taken from here as they are needed.
        workers: what `work` may not share, e.g. replicas of a model. Of one, the caller's thread does
            everything with the threads that torch has.
    """
    if len(workers) == 1:
        yield from (work(workers[0], item) for item in items)
        return
    import torch

    free: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    grad = torch.is_grad_enabled()

    def run(item: Item) -> Result:
        worker = free.get()
        try:
            with torch.set_grad_enabled(grad):
                return work(worker, item)
        finally:
            free.put(worker)

    before = torch.get_num_threads()
    share = max(1, before // len(workers))
    torch.set_num_threads(share)
    pool = ThreadPoolExecutor(len(workers), initializer=torch.set_num_threads, initargs=(share,))
    try:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(copy_context().run, run, item))
            if len(waiting) > AHEAD * len(workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
