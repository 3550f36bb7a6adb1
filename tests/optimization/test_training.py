import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantbench.errors import BadInput
from quantbench.models.preprocess import Preprocess
from quantbench.optimization.training import PAD, Schedule, TrainSet, augment, train
from quantbench.system import state_file
from quantbench.tasks.evaluate import accuracy, logits
from quantbench.tasks.images import labelled

PLAIN = Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def bright_or_dark(n=96, seed=0):
    """Two classes that a linear layer tells apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = np.clip(rng.normal(60 + 130 * y[:, None, None, None], 20, (n, 12, 12, 3)), 0, 255).astype(
        np.uint8
    )
    return TrainSet(x, y.astype(np.int64), PLAIN)


def small_model():
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(432, 2), torch.nn.BatchNorm1d(2)
    )
    torch.nn.init.zeros_(model[1].weight)
    torch.nn.init.zeros_(model[1].bias)
    return model


def run(model, schedule, *, seed=0, data=None, **more):
    groups = [{"params": list(model.parameters()), "lr": 0.05, "weight_decay": 1e-4}]
    rng = torch.Generator().manual_seed(seed)
    return train(model, data or bright_or_dark(), groups, schedule, rng, **more)


def top1(model):
    """Of images that are not trained on."""
    held_out = bright_or_dark(seed=1)
    return accuracy(logits(model, held_out.x, held_out.preprocess), held_out.y)


def test_learns_and_reports_the_last_epoch():
    model, said = small_model(), []
    history = run(model, Schedule(4, 16), watch=top1, progress=lambda *a: said.append(a))
    assert history.loss[-1] < history.loss[0]
    assert len(history.loss) == len(history.top1) == 4
    assert history.top1[-1] > 90
    assert not model.training
    assert said[-1][:2] == (24, 24)


def test_same_seed_same_bits_and_no_other_source_of_chance():
    states = []
    for seed in (0, 0, 1):
        model, before = small_model(), torch.random.get_rng_state()
        run(model, Schedule(1, 32), seed=seed)
        assert torch.equal(before, torch.random.get_rng_state())
        states.append(model[1].weight.detach().clone())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_interrupted_training_goes_on_bit_by_bit(tmp_path):
    whole, part, file = small_model(), small_model(), tmp_path / "state" / "x.safetensors"
    straight = run(whole, Schedule(3, 32))

    def stop(*report):
        if report[2].startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(part, Schedule(3, 32), saved=file, progress=stop)
    resumed = small_model()
    assert run(resumed, Schedule(3, 32), saved=file) == straight
    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    again = small_model()
    assert run(again, Schedule(3, 32), saved=file) == straight  # finished: nothing left to do
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BadInput, match="remove it to start over"):
        run(small_model(), Schedule(3, 32), saved=file)


FOREVER = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.optimization.test_training import Schedule, run, small_model
def slowly(*report):
    print(report[2], flush=True)
    time.sleep(0.05)
run(small_model(), Schedule(60, 32), saved=Path(sys.argv[1]), progress=slowly)
"""


@pytest.mark.slow
def test_killed_training_goes_on_bit_by_bit(tmp_path):
    file, root = tmp_path / "x.safetensors", Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", FOREVER, str(file)]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True) as killed:
        while not killed.stdout.readline().startswith("epoch 3"):
            assert killed.poll() is None
        killed.send_signal(signal.SIGKILL)
    done = state_file.read(file)["epoch"]
    assert 2 <= done < 60
    whole, resumed = small_model(), small_model()
    straight = run(whole, Schedule(60, 32))
    assert run(resumed, Schedule(60, 32), saved=file) == straight
    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@given(seed=st.integers(0, 2**31))
def test_augmented_images_are_crops_of_padded_ones_or_mirrored(seed):
    x = np.random.default_rng(seed).integers(1, 256, (5, 6, 7, 3)).astype(np.uint8)
    out = augment(x, torch.Generator().manual_seed(seed))
    assert out.shape == x.shape
    for before, after in zip(x, out, strict=True):
        padded = np.pad(before, ((PAD, PAD), (PAD, PAD), (0, 0)))
        crops = [
            padded[i : i + 6, j : j + 7] for i in range(2 * PAD + 1) for j in range(2 * PAD + 1)
        ]
        assert any((after == c).all() or (after == c[:, ::-1]).all() for c in crops)


def test_half_of_the_images_are_mirrored():
    x = np.tile(np.arange(7, dtype=np.uint8)[None, None, :, None] + 1, (2000, 6, 1, 3))
    out = augment(x, torch.Generator().manual_seed(0))
    middle = out[:, 3, 2:5, 0].astype(int)
    falling = (middle[:, 0] > middle[:, 2]) & (middle[:, 2] > 0)
    rising = (middle[:, 0] < middle[:, 2]) & (middle[:, 0] > 0)
    share = falling.sum() / (falling.sum() + rising.sum())
    assert abs(share - 0.5) < 0.05  # 4 standard deviations of a fair coin over 2,000


def test_rates_fall_at_the_milestones():
    s = Schedule(300)
    rates = [s.rate(epoch / 300) for epoch in (0, 149, 150, 224, 225, 299)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_bfloat16_trains_too():
    model = small_model()
    assert run(model, Schedule(2, 16, bf16=True)).loss[-1] < 0.7
    assert model[1].weight.dtype == torch.float32


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="at least 1"):
        Schedule(0)
    nothing = TrainSet(np.zeros((0, 12, 12, 3), np.uint8), np.zeros(0, np.int64), PLAIN)
    with pytest.raises(BadInput, match="empty"):
        run(small_model(), Schedule(1), data=nothing)
    bad = small_model()
    torch.nn.init.constant_(bad[1].weight, float("inf"))
    with pytest.raises(BadInput, match="loss is nan"):
        run(bad, Schedule(1))


def test_labelled_images_are_drawn_evenly():
    found = labelled("shapes/resnet8", "shapes/calib", 40)
    assert found.x.shape == (40, 32, 32, 3)
    assert np.ptp(np.bincount(found.y)) <= 1
