"""Conversions of small files of the same layout as the sources."""

import gzip
import json
import sys
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

from quantbench.data.readers import tar
from quantbench.data.sources.convert_data import (
    _batches,
    imagenet_train,
    imagenet_train_csv,
    imagenet_val,
    imagenet_val_csv,
    unzip_json,
    zipped,
)
from quantbench.data.sources.convert_tensorflow import _layers, mobilenet_v1, mobilenet_v2
from quantbench.data.sources.convert_weights import llama2c
from quantbench.errors import DataCorrupt, DataMissing
from quantbench.models.llama import language_model
from tests.helpers.sources import Folder


def floats(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.ascontiguousarray(array, "<f4").tobytes())


def test_keras_shards_become_torch_weights_that_compute_the_same(tmp_path):
    rng = np.random.default_rng(0)
    weights = {
        "conv1/kernel": rng.normal(size=(3, 3, 3, 8)),
        "conv_dw_2/depthwise_kernel": rng.normal(size=(3, 3, 8, 1)),
        "conv_pw_1/kernel": rng.normal(size=(1, 1, 8, 16)),
        "conv_pw_1_bn/gamma": rng.normal(size=16),
        "conv_pw_1_bn/moving_variance": rng.random(16),
        "conv_preds/kernel": rng.normal(size=(1, 1, 16, 5)),
        "conv_preds/bias": rng.normal(size=5),
    }
    manifest = []
    for i, (name, w) in enumerate(weights.items()):
        floats(tmp_path / f"g{i}", w)
        manifest.append(
            {"paths": [f"g{i}"], "weights": [{"name": name, "shape": w.shape, "dtype": "float32"}]}
        )
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
    mobilenet_v1(Folder(tmp_path), tmp_path / "out.safetensors", "model.json")
    got = load_file(tmp_path / "out.safetensors")
    # one output position: a sum over the whole kernel
    image = rng.normal(size=(3, 3, 3)).astype(np.float32)
    want = np.einsum("hwi,hwio->o", image, weights["conv1/kernel"])
    here = torch.nn.functional.conv2d(
        torch.from_numpy(image.transpose(2, 0, 1))[None], got["stem.1.weight"]
    )
    # float32 sums of 27 products of size 1
    assert np.allclose(here.flatten().numpy(), want, atol=1e-4)
    assert np.allclose(
        got["blocks.1.0.1.weight"][3, 0], weights["conv_dw_2/depthwise_kernel"][:, :, 3, 0]
    )
    assert np.allclose(got["blocks.0.1.0.weight"][..., 0, 0], weights["conv_pw_1/kernel"][0, 0].T)
    assert {k for k in got if k.startswith("blocks.0.1.1")} == {
        f"blocks.0.1.1.{k}" for k in ("weight", "running_var", "num_batches_tracked")
    }
    assert np.allclose(got["fc.weight"], weights["conv_preds/kernel"][0, 0].T)
    (tmp_path / "g0").write_bytes(b"1234")
    with pytest.raises(DataCorrupt, match="1 values, its manifest says 216"):
        mobilenet_v1(Folder(tmp_path), tmp_path / "out.safetensors", "model.json")


def tflite(path, weight, scales):
    """A TensorFlow Lite file with one pointwise convolution, int8 (out, in) times scales (out,)."""
    pytest.importorskip("ai_edge_litert")
    from quantbench.integer.backends.litert.model import model
    from quantbench.integer.ir import Conv, Format, Program

    outs, codes = len(weight), Format(1.0, 0, 0, 255)
    conv = Conv(
        name="top", inputs=("input",), output="top", out=codes, weight=weight[:, :, None, None],
        weight_zero=np.zeros(outs, np.int16), weight_scale=scales, bias=np.zeros(outs, np.int32),
        lo=np.zeros(outs, np.uint8), hi=np.full(outs, 255, np.uint8), weight_bits=8,
        stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1), groups=1,
    )  # fmt: skip
    path.write_bytes(model(Program(codes, (weight.shape[1], 1, 1), (conv,)), 1))


def npy_mobilenet(folder, rng):
    """Random .npy files as the source has them; gives what each layer here should hold."""
    wanted = {}
    for key, number, theirs in _layers():
        outs, ins = int(rng.integers(2, 6)), int(rng.integers(2, 6))
        kernel = rng.normal(size=(1, 3, 3, outs) if "depthwise" in theirs else (outs, 1, 1, ins))
        bias = rng.normal(size=outs)
        np.save(folder / f"Const_{number}.npy", kernel.astype("<f4"))
        np.save(folder / f"MobilenetV2_{theirs}_bias.npy", bias.astype("<f4"))
        wanted[key] = kernel, bias
    logits = rng.normal(size=1001).astype("<f4")
    np.save(folder / "MobilenetV2_Logits_Conv2d_1c_1x1_Conv2D_bias.npy", logits)
    return wanted, logits


def test_npy_files_and_an_8_bit_classifier_become_one_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    wanted, logits = npy_mobilenet(tmp_path, rng)
    codes = rng.integers(-127, 128, (1001, 1280)).astype(np.int8)
    scales = rng.uniform(0.001, 0.01, 1001).astype(np.float32)
    tflite(tmp_path / "second", codes, scales)
    mobilenet_v2(Folder(tmp_path), tmp_path / "out.safetensors", ".")
    got = {k: t.numpy() for k, t in load_file(tmp_path / "out.safetensors").items()}
    # the layers and shapes of torchvision's network, whose batch norms are folded away
    with torch.device("meta"):
        modules = dict(torchvision.models.mobilenet_v2().named_modules())
    layers = {k for k, m in modules.items() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)}
    assert {k.rpartition(".")[0] for k in got} == layers
    for key, (kernel, bias) in wanted.items():
        depthwise = modules[key].groups > 1
        assert np.allclose(got[f"{key}.bias"], bias)
        for o in range(len(bias)):
            one = kernel[0, :, :, o] if depthwise else kernel[o].transpose(2, 0, 1)
            assert np.allclose(got[f"{key}.weight"][o], one)
    # without class 0, the background
    assert np.array_equal(got["classifier.1.bias"], logits[1:])
    assert np.array_equal(
        got["classifier.1.weight"], codes[1:].astype(np.float32) * scales[1:, None]
    )
    (tmp_path / "Const_90.npy").write_bytes(b"cut")
    with pytest.raises(DataCorrupt, match=r"Const_90\.npy is not a whole"):
        mobilenet_v2(Folder(tmp_path), tmp_path / "out.safetensors", ".")


def test_files_that_are_no_8_bit_classifier_are_refused(tmp_path, monkeypatch):
    npy_mobilenet(tmp_path, np.random.default_rng(0))
    tflite(tmp_path / "second", np.ones((3, 4), np.int8), np.ones(3, np.float32))
    convert = lambda: mobilenet_v2(Folder(tmp_path), tmp_path / "out.safetensors", ".")  # noqa: E731
    with pytest.raises(DataCorrupt, match="no int8 matrix"):
        convert()
    (tmp_path / "second").write_bytes(b"no model")
    with pytest.raises(DataCorrupt, match="not a whole TensorFlow Lite file"):
        convert()
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(DataMissing, match=r"pip install 'quantbench\[runtimes\]'"):
        convert()


def convnetjs(folder, batches):
    labels = np.random.default_rng(1).permutation(np.arange(1000 * batches) % 10)
    (folder / "cifar10_labels.js").write_text(f"var labels={labels.tolist()};")
    x = np.random.default_rng(0).integers(0, 256, (batches, 1000, 1024, 3), dtype=np.uint8)
    x //= 64  # compresses
    for i, rows in enumerate(x):
        Image.fromarray(rows).save(folder / f"cifar10_batch_{i}.png", compress_level=1)
    return x.reshape(-1, 32, 32, 3), labels


def test_cifar_rows_of_pixels_become_images(tmp_path):
    x, y = convnetjs(tmp_path, 2)
    got, labels = _batches(Folder(tmp_path), ".", [1])
    assert np.array_equal(got, x[1000:])
    assert np.array_equal(labels, y[1000:])
    with pytest.raises(DataCorrupt, match="not a batch of 500"):
        _batches(Folder(tmp_path), ".", [1], each=500)


def test_an_archive_of_one_text_becomes_gz(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("dev.json", '{"data": []}')
        archive.writestr("__MACOSX/._dev.json", "x")
    unzip_json(Folder(tmp_path), tmp_path / "a.json.gz", "a.zip")
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == b'{"data": []}'
    zipped(Folder(tmp_path), tmp_path / "b.gz", "a.zip")
    assert gzip.decompress((tmp_path / "b.gz").read_bytes()) == (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-9])
    with pytest.raises(DataCorrupt, match=r"not a whole \.zip"):
        unzip_json(Folder(tmp_path), tmp_path / "a.json.gz", "a.zip")


def test_images_listed_by_the_source_become_a_tar_and_a_csv(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("data/v1.JPEG", "data/v2.JPEG", "n00000001_b.JPEG", "n00000002_a.JPEG"):
        noise = np.random.default_rng(len(name)).integers(0, 256, (230, 300, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / "dataset.txt").write_text("./data/v2.JPEG, 1\n./data/v1.JPEG, 0\n")
    (tmp_path / "synset_words.txt").write_text("n01 a, b\nn02 c\n")
    (tmp_path / "gallery.md").write_text("![x](n00000002_a.JPEG) ![y](n00000001_b.JPEG)")
    get = Folder(tmp_path)
    imagenet_val(get, tmp_path / "v.tar", ".")
    imagenet_val_csv(get, tmp_path / "v.csv", ".")
    imagenet_train(get, tmp_path / "t.tar", "")
    imagenet_train_csv(get, tmp_path / "t.csv", "")
    assert (
        tmp_path / "v.csv"
    ).read_bytes() == b"file,label,synset\r\nv2.JPEG,1,n02\r\nv1.JPEG,0,n01\r\n"
    x, y = tar(tmp_path / "v.tar", tmp_path / "v.csv")
    assert y.tolist() == [1, 0]
    x, y = tar(tmp_path / "t.tar", tmp_path / "t.csv")
    assert x.shape == (2, 224, 224, 3)
    assert y.tolist() == [0, 1]


def llama2c_file(path, heads=4, shared=2):
    """Random weights of a small model in llama2.c's layout, by name."""
    rng, hidden, wide, layers, words = np.random.default_rng(0), 16, 24, 2, 10
    head = hidden // heads
    shapes = {
        "table": (words, hidden),
        "norm1": (layers, hidden),
        "q": (layers, hidden, hidden),
        "k": (layers, shared * head, hidden),
        "v": (layers, shared * head, hidden),
        "o": (layers, hidden, hidden),
        "norm2": (layers, hidden),
        "w1": (layers, wide, hidden),
        "w2": (layers, hidden, wide),
        "w3": (layers, wide, hidden),
        "norm": (hidden,),
    }
    arrays = {name: rng.normal(size=shape).astype("<f4") for name, shape in shapes.items()}
    sizes = np.array([hidden, wide, layers, heads, shared, words, 8], "<i4")
    frequencies = np.zeros(2 * 8 * head // 2, "<f4")  # which llama2.c stores and does not read
    path.write_bytes(
        sizes.tobytes() + b"".join(a.tobytes() for a in arrays.values()) + frequencies.tobytes()
    )
    return {name: torch.from_numpy(a).double() for name, a in arrays.items()}


def llama2c_logits(w, ids, heads=4, shared=2):
    """llama2.c's forward pass, token by token and pair by pair of neighbours."""
    hidden = w["table"].shape[1]
    head = hidden // heads
    norm = lambda x, g: g * x / (x.square().mean() + 1e-5).sqrt()  # noqa: E731
    keys, values, out = [[], []], [[], []], []
    for position, token in enumerate(ids):
        x = w["table"][token]
        for i in range(2):
            n = norm(x, w["norm1"][i])
            q, k, v = (w[name][i] @ n for name in ("q", "k", "v"))
            for vector in (q, k):
                for j in range(0, len(vector), 2):
                    angle = position * 10000.0 ** -((j % head) / head)
                    a, b = vector[j].clone(), vector[j + 1].clone()
                    vector[j] = a * np.cos(angle) - b * np.sin(angle)
                    vector[j + 1] = a * np.sin(angle) + b * np.cos(angle)
            keys[i].append(k)
            values[i].append(v)
            context = []
            for h in range(heads):
                own = slice(h * head, (h + 1) * head)
                g = h * shared // heads
                theirs = slice(g * head, (g + 1) * head)
                scores = torch.stack([q[own] @ t[theirs] for t in keys[i]]) / head**0.5
                shares = scores.softmax(0)
                context += [sum(s * t[theirs] for s, t in zip(shares, values[i], strict=True))]
            x = x + w["o"][i] @ torch.cat(context)
            n = norm(x, w["norm2"][i])
            gate = w["w1"][i] @ n
            x = x + w["w2"][i] @ (gate * gate.sigmoid() * (w["w3"][i] @ n))
        out.append(w["table"] @ norm(x, w["norm"]))
    return torch.stack(out)


def test_a_llama2c_file_becomes_weights_that_compute_the_same(tmp_path):
    weights = llama2c_file(tmp_path / "model.bin")
    llama2c(Folder(tmp_path), tmp_path / "out.safetensors", "model.bin")
    ids = [1, 7, 3, 3, 9, 0]
    with torch.no_grad():
        ours = language_model(load_file(tmp_path / "out.safetensors"), 4, 8)(torch.tensor([ids]))
    torch.testing.assert_close(ours[0], llama2c_logits(weights, ids).float(), rtol=1e-4, atol=1e-3)


def test_files_that_are_no_llama2c_model_are_refused(tmp_path):
    path = tmp_path / "model.bin"
    llama2c_file(path)
    for content, said in ((path.read_bytes()[:4000], "too few"), (b"no model", "sizes")):
        path.write_bytes(content)
        with pytest.raises(DataCorrupt, match=said):
            llama2c(Folder(tmp_path), tmp_path / "out.safetensors", "model.bin")
