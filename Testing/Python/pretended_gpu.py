"""Two GPUs, "cuda:0" and "cuda:1", that are the processor inside and refuse what torch refuses on real ones.

A tensor there does not mix with one on the processor or on the other GPU, is no NumPy array, is not filled by a generator of
the processor, and kernels take no other. So where the product leaves a tensor behind, a test fails as a GPU would. What this
cannot show is how a GPU computes, how long it takes, and that it works on while the program does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from GaussianMRILib.native.lattice import operators as lattice_operators
from GaussianMRILib.native.paths import operators as paths_operators
from GaussianMRILib.native.planes import operators as planes_operators
from GaussianMRILib.native.splats import operators as splats_operators
from GaussianMRILib.native.support import cuda_launch

COUNT = 2
#: Arguments of the kernels' operators that stay on the processor.
ON_THE_PROCESSOR = ("shapes", "ras_to_node", "camera", "scene")
_OPERATORS: tuple[ModuleType, ...] = (planes_operators, lattice_operators, splats_operators, paths_operators)
#: GPUs on which operators of the product ran.
_used: set[str] = set()
_COPIES = ("aten::copy_", "aten::_to_copy")
_INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_ON_NO_GPU = ("aten::histogram", "aten::_histogramdd_from_bin_cts", "aten::_histogramdd_bin_edges")


def gpu(device: Any) -> torch.device | None:
    """The GPU that a device is, with its number; None for the processor."""
    if device is None or (not isinstance(device, int) and torch.device(device).type != "cuda"):
        return None
    number = device if isinstance(device, int) else torch.device(device).index or 0
    if number >= COUNT:
        raise RuntimeError(f"CUDA error: invalid device ordinal {number}")
    return torch.device("cuda", number)


class Pretended(Tensor):
    """A tensor on a GPU; `held` is where its numbers are."""

    held: Tensor
    place: torch.device
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor, place: torch.device, requires_grad: bool = False) -> Pretended:
        assert not isinstance(held, Pretended)
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device="cpu", requires_grad=requires_grad,
        )  # fmt: skip
        made.held, made.place = held, place
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def get_device(self) -> int:
        return int(self.place.index)

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Tensor:
        copy = Pretended(self.held.detach().clone(), self.place, self.requires_grad)
        return torch.nn.Parameter(copy, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copy

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Pretended({self.held}, {self.place})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


def _placed(result: Any, place: torch.device) -> Any:
    def placed(value: Any) -> Any:
        return Pretended(value, place) if isinstance(value, Tensor) and not isinstance(value, Pretended) else value

    return tree_map(placed, result)


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator below autograd, on tensors of which one at least is on a GPU."""
    name = func._schema.name
    if name.startswith("gaussianmri::"):
        return _by_kernel(func, args, kwargs)
    if name in _ON_NO_GPU:
        raise NotImplementedError(f"{name} is not there for CUDA")
    leaves = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    places = {tensor.device for tensor in tensors if isinstance(tensor, Pretended)}
    if name not in _COPIES:
        # Numbers in tensors without axes, and indices, may come from the processor.
        strict = [args[0], *args[2:]] if name in _INDEXED else tensors
        host = {t.device for t in strict if isinstance(t, Tensor) and (t.dim() > 0 or t is args[0])}
        if len(places | host) > 1:
            found = ", ".join(sorted(map(str, places | host)))
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {found} ({name})")
    place = args[0].device if name == "aten::copy_" else next(iter(places))
    if isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    plain_args, plain_kwargs = tree_map(_held, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)
    if not func._schema.returns:
        return None
    if func._schema.is_mutable and name.endswith("_"):
        return args[0]
    if name == "aten::_local_scalar_dense":
        return result
    return _placed(result, place)


def _by_kernel(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One of the product's operators, by what is registered for CUDA."""
    place = next(a.device for a in args if isinstance(a, Pretended))
    _used.add(str(place))
    # For a result that was not used autograd makes a gradient of zeros, here on the processor.
    named = zip(func._schema.arguments, args, strict=False)
    args = [_placed(a, place) if argument.name.startswith("grad_") else a for argument, a in named]
    with torch._C._EnableTorchFunction(), _Redirected():
        return func.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA), *args, **kwargs)


class _ToGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, place: torch.device) -> Tensor:
        return Pretended(_held(x).detach().clone(), place)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _held(gradient).clone(), None


class _ToProcessor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Tensor:
        ctx.place = x.place
        return x.held.detach().clone()  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Pretended(gradient.clone(), ctx.place)


def _moved(x: Tensor, device: Any) -> Tensor:
    place, graph = gpu(device), x.requires_grad and torch.is_grad_enabled()
    if place is None:
        if not isinstance(x, Pretended):
            return x
        return _ToProcessor.apply(x) if graph else x.held.detach().clone()  # type: ignore[no-any-return]
    if x.device == place:
        return x
    return _ToGpu.apply(x, place) if graph else Pretended(_held(x).detach().clone(), place)  # type: ignore[no-any-return]


def _to(x: Tensor, *given: Any, copy: bool = False, **named: Any) -> Tensor:
    """`Tensor.to`, whose arguments have many forms."""
    device, dtype = named.get("device"), named.get("dtype")
    for value in (*given, named.get("other")):
        if isinstance(value, Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, (str, torch.device)) or type(value) is int:
            device = value
    moved = x if device is None else _moved(x, device)
    if dtype is not None and moved.dtype != dtype:
        return moved.type(dtype)
    return moved.clone() if copy and moved is x else moved


class _Redirected(TorchFunctionMode):
    """torch's functions while the GPUs are there: what they do by themselves for tensors and devices that torch knows."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if func is Tensor.to:
            return _to(*args, **kwargs)
        if func is Tensor.cpu:
            return _moved(first, "cpu")
        if func is Tensor.cuda:
            return _moved(first, kwargs.get("device", args[1] if len(args) > 1 else "cuda"))
        if isinstance(first, Pretended):
            if func in (Tensor.numpy, Tensor.__array__):
                raise TypeError(f"can't convert {first.place} device type tensor to numpy. Use Tensor.cpu() first.")
            if func in (Tensor.tolist, Tensor.__reduce_ex__, Tensor.data_ptr):
                return func(first.held.detach(), *args[1:], **kwargs)
            if func is Tensor.device.__get__:  # type: ignore[attr-defined]
                return first.place
            if func is Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
                return True
            if func is Tensor.new_tensor:
                return self._made(torch.tensor, args[1:], {"dtype": first.dtype, "device": first.place, **kwargs})
            if func in (torch.tensor, torch.as_tensor) and "device" not in kwargs:
                return first.clone() if func is torch.tensor else first
        if kwargs.get("device") is not None:
            return self._made(func, args, kwargs)
        return func(*args, **kwargs)

    def _made(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A new tensor where `device` says."""
        place = gpu(kwargs["device"])
        if place is not None and isinstance(kwargs.get("generator"), torch.Generator):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        graph = kwargs.pop("requires_grad", False)
        kwargs.pop("pin_memory", None)
        made = func(*map(_held, args), **{**kwargs, "device": "cpu"})
        made = made if place is None else _placed(made.detach(), place)
        return made.requires_grad_() if graph else made


def _processor_kernels(real: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The processor's kernels in the place of CUDA's: whole fits and trainings are quick enough for tests with them."""

    def implementation(device: Any) -> Any:
        if torch.device(device).type == "cpu":
            return real(device)
        processor = real(torch.device("cpu"))

        class OnGpu:
            def __getattr__(self, name: str) -> Callable[..., Any]:
                def call(*arguments: Any) -> Any:
                    place = next(x.device for a in arguments for x in _tensors(a) if isinstance(x, Pretended))
                    return _placed(getattr(processor, name)(*map(_on_processor, arguments)), place)

                return call

        return OnGpu()

    return implementation


def _tensors(argument: Any) -> list[Any]:
    return [*vars(argument).values()] if dataclasses.is_dataclass(argument) else [argument]


def _changed(argument: Any, change: Callable[[str, Any], Any], name: str) -> Any:
    if dataclasses.is_dataclass(argument):
        values = ((field.name, getattr(argument, field.name)) for field in dataclasses.fields(argument))
        return type(argument)(**{name: change(name, value) for name, value in values})  # type: ignore[misc]
    return change(name, argument)


def _on_processor(argument: Any) -> Any:
    return _changed(argument, lambda _, value: _held(value), "")


def _enter_no_grad(mode: Any) -> None:
    """In the place of torch's inference mode, which knows no tensors that are not its own."""
    mode.instead = torch.no_grad()
    mode.instead.__enter__()


def _leave_no_grad(mode: Any, *error: Any) -> None:
    mode.instead.__exit__(*error)


class OnGpu:
    """Operators of a capability (`CudaPlanes`, ...) that are called with tensors of the processor, and compute on a GPU.

    What is changed in place is changed in the tensors that were given.
    """

    def __init__(self, operators: Any, place: str = "cuda:0") -> None:
        self._operators, self._place = operators, torch.device(place)
        self.launcher = operators.launcher

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._operators, name)
        names = list(inspect.signature(function).parameters)

        def placed(name: str, value: Any) -> Any:
            there = isinstance(value, Tensor) and name not in ON_THE_PROCESSOR
            return Pretended(value.detach(), self._place) if there else value

        def call(*arguments: Any) -> Any:
            with _Redirected():
                given = [_changed(value, placed, name) for name, value in zip(names, arguments, strict=True)]
                return tree_map(_held, function(*given))

        return call


@contextlib.contextmanager
def pretended_gpus(launcher: Any = None) -> Iterator[set[str]]:
    """The GPUs, with torch's questions about them, while the context lasts; gives the set of those where kernels ran.

    Args:
        launcher: runs the CUDA kernels, see `cuda_support.emulation_launcher`; default: the processor's kernels do.
    """

    answers = {
        "is_available": lambda: True, "current_device": lambda: 0, "device_count": lambda: COUNT,
        "is_current_stream_capturing": lambda: False,  # optimisers ask, and a torch with CUDA asks the driver
        "get_device_name": lambda *_: "Pretended GPU", "get_device_capability": lambda *_: (8, 6),
        "is_bf16_supported": lambda *_, **__: True, "mem_get_info": lambda *_: (8_000_000_000, 8_000_000_000),
        "memory_reserved": lambda *_: 0, "memory_allocated": lambda *_: 0,
        "synchronize": lambda *_: None, "set_device": lambda *_: None, "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda *_: None,
    }  # fmt: skip
    engine = torch.autograd._engine_run_backward  # type: ignore[attr-defined]

    def backward(*arguments: Any, **named: Any) -> Any:
        with _Redirected():  # torch calls it with its functions as they are
            return engine(*arguments, **named)

    ready = cuda_launch.CudaStatus(True, "pretended", "Pretended GPU")
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        if hasattr(torch, "accelerator"):  # from torch 2.6 on; a torch with CUDA would ask the driver for its stream
            stack.enter_context(mock.patch.object(torch.accelerator, "current_accelerator", lambda *_, **__: None))
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", backward))
        for name, method in (("__enter__", _enter_no_grad), ("__exit__", _leave_no_grad)):
            stack.enter_context(mock.patch.object(torch.inference_mode, name, method))
        stack.enter_context(mock.patch.object(torch.version, "cuda", "12.8"))
        stack.enter_context(mock.patch.object(cuda_launch, "status", lambda *_: ready))
        stack.enter_context(mock.patch.object(cuda_launch, "launcher", lambda: launcher))
        if launcher is None:
            for module in _OPERATORS:
                kernels = _processor_kernels(module._implementation)
                stack.enter_context(mock.patch.object(module, "_implementation", kernels))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        stack.enter_context(_Redirected())
        _used.clear()
        yield _used
