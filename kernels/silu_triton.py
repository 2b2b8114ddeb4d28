"""SiLU on a device, shared by the kernels that apply it as they read."""

import triton
import triton.language as tl


@triton.jit
def silu(x: tl.tensor, FAST: tl.constexpr) -> tl.tensor:
    """x / (1 + exp(-x)) of float32; FAST: one `tanh.approx` instead of exp and a division, with a
    relative error of about 2^-11 (half precision keeps less). Triton's interpreter has no FAST."""
    if FAST:
        half = x * 0.5
        tanh = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [half], dtype=tl.float32, is_pure=True, pack=1
        )
        return half * tanh + half
    return x * tl.sigmoid(x)


@triton.jit
def read_silu(
    at: tl.tensor, inside: tl.tensor, FAST: tl.constexpr, UPCAST: tl.constexpr
) -> tl.tensor:
    """SiLU of what is there, rounded to its dtype (UPCAST: float32); zero where not inside."""
    raw = tl.load(at, mask=inside, other=0.0)
    value = silu(raw.to(tl.float32), FAST)
    return value if UPCAST else value.to(raw.dtype)
