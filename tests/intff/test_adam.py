from copy import deepcopy

import torch
from torch import Tensor, nn

from intff.adam import Adam
from intff.seeds import seeded


def _weights() -> list[nn.Parameter]:
    generator = seeded(0, "weights")
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((40, 30), (40,), (3, 40))]


def _gradients(step: int) -> list[Tensor]:
    generator = seeded(step, "gradients")
    return [torch.randn(weight.shape, generator=generator) for weight in _weights()]


def test_a_step_on_given_gradients_is_torchs_to_the_last_bit() -> None:
    """Also where a weight has none, and so is not moved and ages by no step."""
    ours, theirs = _weights(), _weights()
    adam, plain = Adam(ours), torch.optim.Adam(theirs, fused=True)
    for step in range(12):
        rate = 0.1 / (step + 1)
        adam.rate.fill_(rate)
        plain.param_groups[0]["lr"] = rate
        chosen = [number for number in range(3) if step < 4 or number == step % 3]
        gradients = _gradients(step)
        adam.step_by({ours[number]: gradients[number] for number in chosen})
        for number, weight in enumerate(theirs):
            weight.grad = gradients[number] if number in chosen else None
        plain.step()
        assert all(map(torch.equal, ours, theirs))
    assert not torch.equal(ours[0], _weights()[0])


def test_its_steps_are_counted_as_the_kernels_read_them() -> None:
    """On CUDA a count of another type would be read as zero."""
    torch.set_default_dtype(torch.float64)
    try:
        weights = _weights()
        adam = Adam(weights)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {adam.state[weight]["step"].dtype for weight in weights} == {torch.float32}


def test_its_state_goes_on_where_it_was() -> None:
    first, second = _weights(), _weights()
    adam = Adam(first)
    adam.rate.fill_(0.1)
    for step in range(3):
        adam.step_by(dict(zip(first, _gradients(step), strict=True)))
    again = Adam(second)
    with torch.no_grad():
        for old, new in zip(first, second, strict=True):
            new.copy_(old)
    again.load_state_dict(deepcopy(adam.state_dict()))  # torch goes on with the very tensors
    again.rate.fill_(0.1)
    for step in range(3, 6):
        adam.step_by(dict(zip(first, _gradients(step), strict=True)))
        again.step_by(dict(zip(second, _gradients(step), strict=True)))
    assert all(map(torch.equal, first, second))
    assert [state["step"].item() for state in again.state.values()] == [6, 6, 6]


def test_its_own_step_and_that_on_given_gradients_may_take_turns() -> None:
    ours, theirs = _weights(), _weights()
    adam, plain = Adam(ours), torch.optim.Adam(theirs, lr=0.01, fused=True)
    adam.rate.fill_(0.01)
    for step in range(4):
        gradients = _gradients(step)
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient
        plain.step()
        if step % 2:
            adam.step_by(dict(zip(ours, gradients, strict=True)))
            continue
        for weight, gradient in zip(ours, gradients, strict=True):
            weight.grad = gradient
        adam.step()
    assert all(map(torch.equal, ours, theirs))


def test_moments_are_zero_before_they_are_denormal() -> None:
    """Without a gradient, 0.1 decays to 1e-38 within 900 steps, and the weights go where they would have gone."""
    ours, theirs = _weights(), _weights()
    adam, plain = Adam(ours), torch.optim.Adam(theirs, lr=0.01, fused=True)
    adam.rate.fill_(0.01)
    met = False
    for step in range(1000):
        gradients = _gradients(0) if step == 0 else [torch.zeros_like(weight) for weight in ours]
        adam.step_by(dict(zip(ours, gradients, strict=True)))
        adam.drop_tiny_moments()
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient
        plain.step()
        assert not any(_has_denormal(state["exp_avg"]) for state in adam.state.values())
        met = met or _has_denormal(plain.state[theirs[0]]["exp_avg"])
    assert met
    assert not any(bool(state["exp_avg"].any()) for state in adam.state.values())
    assert all(map(torch.equal, ours, theirs))


def _has_denormal(numbers: Tensor) -> bool:
    return bool(((numbers != 0) & (numbers.abs() < torch.finfo(torch.float32).tiny)).any())


def test_when_they_are_dropped_depends_on_the_steps_alone() -> None:
    """Not on who took them: one that goes on from a state drops what the other drops."""
    first, second = _weights(), _weights()
    adam, again = Adam(first), Adam(second)
    for step in range(250):
        gradients = _gradients(step) if step < 3 else [torch.zeros_like(weight) for weight in first]
        adam.step_by(dict(zip(first, gradients, strict=True)))
        adam.drop_tiny_moments()
        if step < 3 or step == 120:
            again.load_state_dict(deepcopy(adam.state_dict()))
        else:
            again.step_by(dict(zip(second, gradients, strict=True)))
            again.drop_tiny_moments()
        for ours, theirs in zip(adam.state.values(), again.state.values(), strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
