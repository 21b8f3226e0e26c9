# SPDX-License-Identifier: Apache-2.0
"""One encoder, many heads, any subset of tokens; and weights that are kept packed are never stale."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks import DINOv3, MRDINOv3
from ProstateXferLib.networks.mr_dinov3 import default_blocks
from ProstateXferLib.networks.patch_decode import TOKENS_AT_ONCE, PatchDecode

SIZE = (48, 64)  # 3 x 4 tokens
HEADS = {"gland": 2, "dil": 3}


def slices(count=2, seed=1):
    return torch.randn(count, 1, *SIZE, generator=torch.Generator().manual_seed(seed))


def infer(network, image):
    """The output for an image, cast to the network's type, by the packed path."""
    with torch.inference_mode():
        output = network(image.to(next(network.parameters()).dtype))
    return output if isinstance(output, torch.Tensor) else torch.cat(list(output.values()), dim=1)


@pytest.fixture(scope="module")
def network(random_network):
    return random_network("mr_dinov3", heads_of=HEADS)


@pytest.fixture
def fresh(random_network):
    """A network of this test's own, which has run once and keeps packed weights."""
    own = random_network("mr_dinov3", heads_of=HEADS, seed=3)
    infer(own, slices())
    return own


def test_each_head_gives_its_classes_for_every_pixel(network):
    logits = network(slices())
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        "gland": (2, 2, *SIZE),
        "dil": (2, 3, *SIZE),
    }


def test_all_heads_are_decoded_from_one_encoding(network):
    calls = []
    hook = network.dino_encoder.patch_embed.register_forward_hook(lambda *_: calls.append(1))
    infer(network, slices())
    hook.remove()
    assert len(calls) == 1


def test_a_head_gives_the_same_alone_and_beside_others(network):
    alone = MRDINOv3(network.dino_encoder, network.heads["dil"]).eval()
    with torch.no_grad():
        torch.testing.assert_close(alone(slices()), network(slices())["dil"], rtol=0, atol=0)


@given(
    where=st.lists(st.booleans(), min_size=24, max_size=24),
    head=st.sampled_from(list(HEADS)),
    fill=st.sampled_from([0.0, -20.0]),
)
def test_chosen_tokens_decode_as_in_the_full_image(network, where, head, fill):
    chosen = torch.tensor(where).view(2, 12)
    with torch.inference_mode():
        tokens = network.encode(slices())
        full = network.decode(tokens, SIZE, [head])[head]
        part = network.decode_where(head, tokens, SIZE, chosen, fill=fill)
    pixels = chosen.view(2, 1, 3, 4).repeat_interleave(16, 2).repeat_interleave(16, 3).expand_as(full)
    torch.testing.assert_close(part[pixels], full[pixels], rtol=1e-5, atol=1e-5)
    outside = torch.where(pixels, 0.0, part)
    assert not outside[:, 0].any()
    assert (outside[:, 1:][~pixels[:, 1:]] == fill).all()


@pytest.mark.parametrize("count", [0, 1, TOKENS_AT_ONCE, TOKENS_AT_ONCE + 1, 2 * TOKENS_AT_ONCE + 3])
def test_any_number_of_tokens_can_be_decoded(network, count):
    head = network.heads["dil"]
    tokens = torch.randn(count, head.width, generator=torch.Generator().manual_seed(count))
    with torch.no_grad():
        together = head.decode_tokens(tokens)
        one_by_one = [head.decode_tokens(token[None]) for token in tokens]
    assert together.shape == (count, 3, 16, 16)
    if count:
        torch.testing.assert_close(together, torch.cat(one_by_one), rtol=1e-5, atol=1e-5)


def test_the_last_few_tokens_of_an_image_stay_in_their_place(network):
    """Row-major order: only the token of row 2, column 1 changes when its sixteen rows and columns are looked at."""
    tokens = torch.zeros(1, 12, 256)
    changed = tokens.clone()
    changed[0, 2 * 4 + 1] = 1
    with torch.no_grad():
        differs = (
            (network.decode(changed, SIZE)["gland"] - network.decode(tokens, SIZE)["gland"]).abs().amax(dim=(0, 1))
        )
    rows, columns = torch.nonzero(differs, as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 47, 16, 31)


def changed_in_place(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)


def changed_by_loading(network):
    network.load_state_dict({key: 1.1 * value for key, value in network.state_dict().items()})


def changed_by_a_fused_optimiser(network):
    """It writes to the weights without raising their version counters."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01, fused=True)
    sum(logits.square().mean() for logits in network(slices()).values()).backward()
    optimiser.step()
    network.requires_grad_(False)


def changed_behind_the_counter(network):
    network(slices())
    for parameter in network.parameters():
        parameter.data.mul_(1.1)


def replaced(network):
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(1.1 * parameter.detach()))


def cast(network):
    network.to(torch.bfloat16)


def cast_there_and_back(network):
    infer(network.to(torch.bfloat16), slices())
    network.to(torch.float32)


def moved_while_inferring(network):
    """What a full GPU leads to: the network moves to the CPU in the middle of a study."""
    with torch.inference_mode():
        network.to(torch.float64).to(torch.float32)


CHANGES = [
    changed_in_place,
    changed_by_loading,
    changed_by_a_fused_optimiser,
    changed_behind_the_counter,
    replaced,
    cast,
    cast_there_and_back,
    moved_while_inferring,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_packed_weights_follow_the_weights(fresh, change):
    change(fresh)
    never_run = MRDINOv3.from_state_dict(copy.deepcopy(fresh.state_dict()))
    expected = infer(never_run.to(next(fresh.parameters()).dtype), slices())
    torch.testing.assert_close(infer(fresh, slices()), expected, rtol=1e-5, atol=1e-5)


def test_the_changes_of_that_test_matter(fresh):
    before = infer(fresh, slices())
    changed_in_place(fresh)
    assert (infer(fresh, slices()) - before).abs().max() > 0.1


def test_bfloat16_runs_and_stays_near_fp32(network):
    exact = infer(network, slices())
    rough = infer(copy.deepcopy(network).to(torch.bfloat16), slices())
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_that_has_inferred_can_be_trained(random_network, dtype):
    network = random_network("mr_dinov3").to(dtype)
    infer(network, slices())
    network.train()(slices().to(dtype)).float().square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.up_projection.parameters())
    assert all(p.grad is not None for p in network.dino_encoder.blocks.parameters())


def test_named_heads_survive_a_state_dict(network):
    again = MRDINOv3.from_state_dict(network.state_dict())
    assert {name: head.classes for name, head in again.heads.items()} == HEADS
    torch.testing.assert_close(infer(again, slices()), infer(network, slices()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("depth", "taps", "blocks"), [(12, 4, (2, 5, 8, 11)), (24, 4, (4, 11, 17, 23)), (12, 1, (11,)), (4, 2, (1, 3))]
)
def test_usual_blocks(depth, taps, blocks):
    assert default_blocks(depth, taps) == blocks


def test_a_head_of_another_width_is_refused(random_network):
    with pytest.raises(ProstateXferError, match=r"Head 'gland' takes tokens of width 128 .* give width 64"):
        MRDINOv3(random_network("dinov3"), {"gland": PatchDecode(128, 2)}, blocks=(3,))


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 32, 32), (1, 1, 40, 32), (1, 1, 0, 16)])
def test_an_image_the_network_cannot_take_is_refused_with_its_shape(network, shape):
    with pytest.raises(ProstateXferError, match="shape|multiples of 16"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("blocks", [(), (4,), (-1,), (0, 99)])
def test_a_block_that_the_encoder_lacks_is_refused(network, blocks):
    with pytest.raises(ProstateXferError, match=r"4 blocks \(0 to 3\)"):
        network.dino_encoder.intermediate(slices().expand(-1, 3, -1, -1), blocks)


def test_new_weights_start_as_meta_starts_them():
    torch.manual_seed(0)
    network = DINOv3(64, 2, 1)
    network.init_weights()
    assert network.blocks[0].ls1.gamma.unique().tolist() == pytest.approx([1e-5])
    assert float(network.blocks[0].attn.qkv.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not network.blocks[0].attn.qkv.bias.any() and not network.mask_token.any()
    assert network.patch_embed.proj.weight.abs().max() <= 768**-0.5
    assert network.storage_tokens.any() and network.cls_token.any()
