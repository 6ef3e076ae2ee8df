"""Tests of how torch computes."""

from concurrent.futures import ThreadPoolExecutor

import torch

from mmsearch.model.arithmetic import fix_arithmetic


def test_subnormal_numbers_are_rounded_to_zero() -> None:
    """With one thread, which is a setting of the process; this one is the thread's own."""

    def halve_the_smallest_normal_number() -> float:
        fix_arithmetic()
        return float(torch.full((64,), torch.finfo(torch.float32).tiny).div_(2).sum())

    with ThreadPoolExecutor(1) as other:
        assert other.submit(halve_the_smallest_normal_number).result() == 0
    assert torch.get_num_threads() == 1
