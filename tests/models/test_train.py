import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from vizlib.models import cards, recipe, train, zoo
from vizlib.models.photos import Photos, augmentation, preprocessing
from vizlib.models.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = Recipe(epochs=2, batch_size=4, warmup_epochs=0.5, amp=False)


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def without_seconds(log):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in log]


@pytest.mark.parametrize(("name", "amp"), [("vit", False), ("resnet", True)])
def test_resumed_run_ends_in_the_very_same_weights(folder, tmp_path, monkeypatch, name, amp):
    short = dataclasses.replace(SHORT, amp=amp)
    whole = train.Run(name, folder, tmp_path / "whole", short)
    whole.train()

    killed = train.Run(name, folder, tmp_path / "killed", short)
    step, steps = killed.train_step, iter(range(4))  # three batches an epoch: dies in the second epoch

    def dies(*args):
        if next(steps) == 3:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(killed, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    torch.rand(7)  # what ran in between must not matter
    resumed = train.Run(name, folder, tmp_path / "killed", short)
    resumed.resume()
    assert len(resumed.log) == 1
    resumed.train()

    assert same(resumed.model.state_dict(), whole.model.state_dict())
    assert same(resumed.average.module.state_dict(), whole.average.module.state_dict())
    assert without_seconds(resumed.log) == without_seconds(whole.log)
    assert not same(whole.model.state_dict(), whole.average.module.state_dict())
    assert (tmp_path / "killed" / "log.csv").read_text().count("\n") == 3


def test_stopped_run_goes_on_where_it_stopped(folder, tmp_path, capsys):
    options = ["resnet", "--data", str(folder), "--epochs", "3", "--batch-size", "4", "--no-amp"]
    train.main([*options, "--out", str(tmp_path / "whole")])
    train.main([*options, "--out", str(tmp_path / "stopped"), "--stop", "1"])
    card = zoo.card("resnet", tmp_path / "stopped")
    assert (card.epochs, card.recipe["epochs"]) == (1, 3)
    assert "--stop 1" in card.command
    train.main([*options, "--out", str(tmp_path / "stopped"), "--resume"])
    assert zoo.card("resnet", tmp_path / "stopped").sha256 == zoo.card("resnet", tmp_path / "whole").sha256
    assert card.sha256 != zoo.card("resnet", tmp_path / "whole").sha256


def test_resume_refuses_another_recipe_and_another_network(folder, tmp_path):
    run = train.Run("resnet", folder, tmp_path, dataclasses.replace(SHORT, epochs=1))
    run.train()
    with pytest.raises(ValueError, match="--resume needs the recipe"):
        train.Run("resnet", folder, tmp_path, dataclasses.replace(SHORT, epochs=1, lr=0.1)).resume()
    with pytest.raises(ValueError, match="--resume needs the name"):
        train.Run("vit", folder, tmp_path, dataclasses.replace(SHORT, epochs=1)).resume()


def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    cards.write_whole(path, b"old")

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        cards.write_whole(path, b"new, and half of it on disk")
    assert path.read_bytes() == b"old"


def test_command_line_trains_writes_and_loads_again(folder, tmp_path, capsys):
    options = ["--epochs", "4", "--batch-size", "4", "--ema-decay", "0", "--no-amp", "--warmup-epochs", "0"]
    options += ["--lr", "0.003", "--mixup", "0", "--cutmix", "0"]
    train.main(["resnet", "--data", str(folder), "--out", str(tmp_path), "--dataset", "noise", *options])
    card = zoo.card("resnet", tmp_path)
    assert card.top1 == 1.0  # red and blue
    assert "100.0% of 8 photos" in capsys.readouterr().out
    assert card.labels == ("blue", "red")
    assert card.dataset == "noise"
    assert str(tmp_path) not in (tmp_path / "resnet.json").read_text()
    assert str(folder) not in card.command
    again = train.parser().parse_args(card.command.split()[2:])
    assert dataclasses.asdict(recipe.from_options(again)) == card.recipe
    module, labels, mean, std = zoo.load("resnet", tmp_path)
    assert cards.measure(module, Photos(folder / "val", preprocessing())).top1 == card.top1
    assert (labels, mean, std) == (card.labels, zoo.MEAN, zoo.STD)
    assert zoo.confusion("resnet", tmp_path).tolist() == [[4, 0], [0, 4]]
    assert not module.training
    assert all(value.dtype == torch.float32 for value in module.parameters())


def test_weights_that_are_not_the_cards_are_refused(folder, tmp_path):
    run = train.Run("resnet", folder, tmp_path, dataclasses.replace(SHORT, epochs=1))
    run.train()
    run.export("noise", "")
    path = tmp_path / "resnet.safetensors"
    stored = bytearray(path.read_bytes())
    stored[-1] ^= 1
    path.write_bytes(stored)
    with pytest.raises(RuntimeError, match="sha256"):
        zoo.load("resnet", tmp_path)
    path.unlink()
    with pytest.raises(RuntimeError, match="not trained yet"):
        zoo.load("resnet", tmp_path)


def test_an_earlier_training_is_not_overwritten(folder, tmp_path):
    order = ["resnet", "--data", str(folder), "--out", str(tmp_path), "--no-amp", "--batch-size", "4"]
    (tmp_path / "checkpoint.pt").write_bytes(b"hours of work")
    with pytest.raises(ValueError, match=r"holds a checkpoint\. Go on from it with --resume"):
        train.main(order)
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"hours of work"


OFF = {"crop_scale": 1.0, "flip": 0.0, "randaugment": "", "random_erasing": 0.0}


def test_augmentation_switched_off_is_the_preprocessing(folder):
    photo = Photos(folder / "val", lambda image: image).images[0]
    plain = augmentation(dataclasses.replace(SHORT, **OFF))(photo)
    torch.testing.assert_close(plain, preprocessing()(photo))


@pytest.mark.parametrize("part", OFF)
def test_each_augmentation_is_switched_by_its_own_field(folder, part):
    photo = Photos(folder / "val", lambda image: image).images[0]
    strong = {"crop_scale": 0.4, "flip": 1.0, "randaugment": "rand-m9-n3", "random_erasing": 1.0}
    torch.manual_seed(0)
    augment = augmentation(dataclasses.replace(SHORT, **{**OFF, part: strong[part]}))
    plain = preprocessing()(photo)
    assert any(not torch.allclose(augment(photo), plain, atol=1e-4) for _ in range(8))
    if part == "flip":
        torch.testing.assert_close(augment(photo), plain.flip(-1))


def test_network_and_optimiser_take_the_recipe(folder, tmp_path):
    plain = dataclasses.replace(SHORT, drop_path=0.0, layer_scale=0.0, warmup_epochs=0.0)
    kinds = [type(module).__name__ for module in train.Run("vit", folder, tmp_path, plain).model.modules()]
    assert "LayerScale" not in kinds
    assert "DropPath" not in kinds
    run = train.Run("vit", folder, tmp_path, dataclasses.replace(SHORT, drop_path=0.3, layer_scale=0.2))
    blocks = run.model.blocks
    assert blocks[0].ls1.gamma.unique().item() == pytest.approx(0.2)
    dropped = [block.drop_path1.drop_prob for block in blocks[1:]]
    assert dropped == pytest.approx([0.06, 0.12, 0.18, 0.24, 0.3])
    groups = [group["params"] for group in run.optimizer.param_groups if group["weight_decay"]]
    decayed = {id(parameter) for group in groups for parameter in group}
    assert id(run.model.blocks[0].mlp.fc1.weight) in decayed
    assert not {id(run.model.pos_embed), id(run.model.cls_token), id(run.model.norm.weight)} & decayed


def test_depthwise_convolutions_stay_in_float32_and_the_average_has_its_own(folder, tmp_path):
    run = train.Run("mbconv", folder, tmp_path, dataclasses.replace(SHORT, epochs=1, amp=True))
    kinds = {}
    for name, module in run.model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, y, name=name: kinds.update({name: (m.groups > 1, y.dtype)}))
    run.train()
    assert {True, False} == {depthwise for depthwise, _ in kinds.values()}
    for depthwise, dtype in kinds.values():
        assert dtype == (torch.float32 if depthwise else torch.bfloat16)

    photos = torch.rand(2, 3, 64, 64)
    alone = zoo.build("mbconv", 2).to(memory_format=torch.channels_last).eval()
    alone.load_state_dict(run.average.module.state_dict())
    with torch.no_grad():
        assert torch.equal(run.average.module.eval()(photos), alone(photos))


def rates(run):
    found = []
    for step in range(run.recipe.epochs * len(run.loader)):
        run.schedule.step_update(step)
        found.append(run.optimizer.param_groups[0]["lr"])
    return found


def test_learning_rate_rises_and_falls_as_stated(folder, tmp_path):
    warm = dataclasses.replace(SHORT, epochs=4, warmup_epochs=1.0, lr=0.01)
    found = rates(train.Run("resnet", folder, tmp_path, warm))  # twelve steps, three of warm-up
    assert found[:3] == pytest.approx([0.0001, 0.0034, 0.0067])
    cosine = [0.0001 + 0.5 * 0.0099 * (1 + np.cos(np.pi * step / 12)) for step in range(3, 12)]
    assert found[3:] == pytest.approx(cosine)
    cold = dataclasses.replace(warm, warmup_epochs=0.0)
    assert rates(train.Run("resnet", folder, tmp_path, cold))[0] == 0.01


def test_targets_smoothed_mixed_and_plain(folder, tmp_path):
    photos, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 1, 1])

    def targets(**parts):
        run = train.Run("resnet", folder, tmp_path, dataclasses.replace(SHORT, mix_probability=1.0, **parts))
        return run.mix(photos.clone(), labels)

    mixed, soft = targets(mixup=0.0, cutmix=0.0, label_smoothing=0.2)
    assert torch.equal(mixed, photos)
    torch.testing.assert_close(soft, torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]))
    _, hard = targets(mixup=0.0, cutmix=0.0, label_smoothing=0.0)
    assert torch.equal(hard, nn.functional.one_hot(labels).float())
    mixed, soft = targets(mixup=1.0, cutmix=0.0, label_smoothing=0.0)
    share = soft[0, 0].item()  # photo 0 is mixed with photo 3
    assert 0 < share < 1
    torch.testing.assert_close(mixed[0], share * photos[0] + (1 - share) * photos[3])
    mixed, soft = targets(mixup=0.0, cutmix=1.0, label_smoothing=0.0)
    kept = (mixed[0] == photos[0]).all(0).float().mean().item()
    assert kept == pytest.approx(soft[0, 0].item())
    assert 0 < kept < 1


def test_gradient_is_clipped_and_average_follows(folder, tmp_path):
    run = train.Run("resnet", folder, tmp_path, dataclasses.replace(SHORT, clip_grad=1e-3, ema_decay=0.9))
    photos, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 0, 1])
    before = {key: value.clone() for key, value in run.average.module.named_parameters()}
    run.train_step(photos, labels, step=5)
    norm = torch.stack([p.grad.norm() for p in run.model.parameters()]).norm().item()
    assert norm == pytest.approx(1e-3, rel=1e-3)
    for key, value in run.average.module.named_parameters():
        torch.testing.assert_close(value, 0.9 * before[key] + 0.1 * run.model.get_parameter(key))
    free = train.Run("resnet", folder, tmp_path, dataclasses.replace(SHORT, clip_grad=0.0, ema_decay=0.0))
    free.train_step(photos, labels, step=5)
    assert torch.stack([p.grad.norm() for p in free.model.parameters()]).norm().item() > 0.01
    assert same(free.model.state_dict(), free.average.module.state_dict())


class Says(nn.Module):
    """A teacher that names one class whatever it sees."""

    def forward(self, photos):
        return torch.tensor([0.0, 1.0]).expand(len(photos), 2)


def test_distillation_token_hears_the_teacher(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "load", lambda name: (Says(), ("blue", "red"), zoo.MEAN, zoo.STD))
    run = train.Run("deit", folder, tmp_path, dataclasses.replace(SHORT, distillation=0.25))
    own, taught = torch.tensor([[2.0, 1.0]]), torch.tensor([[0.5, -0.5]])
    # True class 0, one ahead of the other; taught class 1, one behind.
    by_hand = 0.75 * np.log(1 + 1 / np.e) + 0.25 * np.log(1 + np.e)
    found = run.objective((own, taught), torch.tensor([[1.0, 0.0]]), torch.zeros(1, 3, 64, 64))
    assert found.item() == pytest.approx(by_hand, rel=1e-6)
    run.train_epoch(0)
    assert train.Run("vit", folder, tmp_path, SHORT).teacher is None
    assert train.Run("deit", folder, tmp_path, dataclasses.replace(SHORT, teacher="")).teacher is None
    monkeypatch.setattr(zoo, "load", lambda name: (Says(), ("cat", "dog"), zoo.MEAN, zoo.STD))
    with pytest.raises(ValueError, match="teacher of the same classes"):
        train.Run("deit", folder, tmp_path, SHORT)


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match="even number; got batch_size 5"):
        Recipe(batch_size=5)
    with pytest.raises(ValueError, match="at least one epoch"):
        Recipe(epochs=0)
    with pytest.raises(ValueError, match="crop_scale"):
        Recipe(crop_scale=0.0)
    with pytest.raises(ValueError, match="a data set needs photos in"):
        train.Run("resnet", tmp_path / "nowhere", tmp_path, SHORT)
    with pytest.raises(ValueError, match="train/ has 12"):
        train.Run("resnet", folder, tmp_path, Recipe(batch_size=64))
    (tmp_path / "train").symlink_to(folder / "train")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "blue").symlink_to(folder / "val" / "blue")
    with pytest.raises(ValueError, match="only one has red"):
        train.Run("resnet", tmp_path, tmp_path, SHORT)


def test_two_processes_share_the_photos_and_agree(folder, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "vizlib.models.train", "resnet", "--data", str(folder), "--out", str(tmp_path)]
    command += ["--epochs", "1", "--batch-size", "2", "--threads", "1", "--no-amp"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    card = json.loads((tmp_path / "resnet.json").read_text())
    assert card["hardware"] == "2 CPU cores"
    assert (tmp_path / "log.csv").read_text().count("\n") == 2
