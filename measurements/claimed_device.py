"""Tensors that claim to lie on a GPU where there is none: what would mix devices on a GPU fails here too.

    with claimed_device():
        model.to("cuda")(ids.to("cuda"))

Each tensor on the claimed device wraps one on the CPU, which does the work. An operation over tensors of both devices
raises RuntimeError, but for those that a GPU allows: copies, numbers, and indices that lie on the CPU. Values are
those of the CPU; memory and time say nothing. Functions that were decorated with ``torch.inference_mode`` before the
block are out of its reach.

It relies on how torch's own fake tensors do without a GPU (`torch._subclasses.fake_tensor`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["claimed_device"]

_new_tensor = torch.tensor


@contextmanager
def claimed_device() -> Iterator[None]:
    """The device ``cuda`` inside the block."""
    torch._C._ensureCUDADeviceGuardSet()
    # Views cannot be wrapped in inference mode. A module's weights are replaced: the old ones cannot become wrappers.
    replaced = mock.patch.multiple(torch, inference_mode=torch.no_grad, tensor=_tensor)
    swap = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with replaced, _Claim():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(swap)


class _Claimed(torch.Tensor):
    """Claims to be on the GPU; ``inner`` is where its values are."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> _Claimed:
        claimed = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="cuda:0",
        )
        claimed.inner = inner
        return claimed

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"on the GPU: {self.inner!r}"

    def __format__(self, wanted: str) -> str:
        return format(self.inner, wanted)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_with_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, torch.Tensor) and value.dim() and not isinstance(value, _Claimed):
            raise RuntimeError(f"values on the CPU, {tuple(value.shape)}, put into a tensor on the GPU")
        self.inner[tree_map(_inner, _with_tensors(index))] = _inner(value)


class _Claim(TorchDispatchMode):
    # As the mode of fake tensors, which keeps torch from looking for a driver.
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


def _dispatch(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name = func._overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    claimed = any(isinstance(tensor, _Claimed) for tensor in tensors)
    together = _together(name, tensors)
    if claimed and any(tensor.dim() and not isinstance(tensor, _Claimed) for tensor in together):
        shapes = [(tuple(tensor.shape), str(tensor.device)) for tensor in together]
        raise RuntimeError(f"{func} over tensors of different devices: {shapes}")
    device = kwargs.get("device")
    if device is not None:
        claimed, kwargs = torch.device(device).type == "cuda", {**kwargs, "device": torch.device("cpu")}
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if name == "copy_":
        return args[0]
    # What an operation changes in place is the same tensor afterwards.
    same = {id(_inner(tensor)): tensor for tensor in tensors}

    def outer(value: Any) -> Any:
        made = isinstance(value, torch.Tensor) and id(value) not in same
        return _Claimed(value) if made and claimed else same.get(id(value), value)

    return tree_map(outer, result)


def _together(name: str, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Those of an operation's tensors that must be on one device."""
    if name in ("copy_", "_to_copy"):
        return ()
    if name in ("index", "_unsafe_index"):
        return tensors[:1]  # the indices may lie on the CPU
    if name in ("index_put", "index_put_", "_index_put_impl_"):
        return (tensors[0], tensors[-1])  # and so may those of values that are put into a tensor
    return tensors


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, _Claimed) else value


def _with_tensors(index: Any) -> Any:
    """Lists in ``index`` as tensors on the CPU: torch would make them on the GPU itself, out of reach of a mode."""
    with torch._C.DisableTorchFunction():
        if isinstance(index, tuple):
            return tuple(_new_tensor(part) if isinstance(part, list) else part for part in index)
        return _new_tensor(index) if isinstance(index, list) else index


def _tensor(data: Any, *, dtype: Any = None, device: Any = None) -> torch.Tensor:
    """`torch.tensor`, which moves its data to the GPU out of reach of a mode."""
    defaults = (mode.device for mode in reversed(_get_current_function_mode_stack()) if hasattr(mode, "device"))
    place = torch.device(device if device is not None else next(defaults, "cpu"))
    with torch._C.DisableTorchFunction():
        made = _new_tensor(_numbers(data), dtype=dtype)
    return made.to(place)


def _numbers(data: Any) -> Any:
    if isinstance(data, (list, tuple)):
        return [_numbers(item) for item in data]
    return data.tolist() if isinstance(data, _Claimed) else data
