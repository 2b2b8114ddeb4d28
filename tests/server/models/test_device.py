"""CUDA behind its seam; what the CPU stands in for is in `device_cases`."""

import threading

import pytest
import torch
from device_cases import Host

from predawn.server.models.device import Accelerator, Cuda

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_the_stand_in_offers_what_the_device_does() -> None:
    host: Accelerator = Host()
    members = {name for name in vars(Accelerator) if not name.startswith("_")}
    assert members == {"device", "pinned", "event", "online", "background", "capture"}
    assert all(hasattr(Cuda, name) and hasattr(host, name) for name in members)


@needs_cuda
def test_the_online_stream_goes_before_the_background() -> None:
    cuda = Cuda(torch.device("cuda"))
    with cuda.online():
        online = torch.cuda.current_stream()
    with cuda.background():
        background = torch.cuda.current_stream()
    assert online.priority < background.priority


@needs_cuda
def test_a_capture_on_one_thread_leaves_the_work_of_another_alone() -> None:
    cuda = Cuda(torch.device("cuda"))
    x = torch.ones((256, 256), device="cuda")
    failed: list[BaseException] = []
    stop = threading.Event()

    def online() -> None:
        try:
            with cuda.online():
                while not stop.is_set():
                    (x @ torch.empty_like(x).fill_(1)).cpu()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=online)
    thread.start()
    for _ in range(5):
        launch, result = cuda.capture(lambda: x * 3)
        launch()
        torch.cuda.current_stream().synchronize()
        assert float(result.max()) == 3
    stop.set()
    thread.join()
    assert not failed
