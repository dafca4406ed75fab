"""Compiled kernel = NumPy twin, bit for bit, on whichever SIMD path this process takes (test_lanes runs all)."""

from __future__ import annotations

import mmap
import os
import zlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aeon_native import _jit, _simd, compiled, reference

DIMS = (1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 256, 384, 768, 1536, 4096)
BOTH = (reference, compiled)
NONE = np.empty(0, np.uint8)


def padded(dim: int) -> int:
    return -(-dim // 64) * 64


def misaligned(array: np.ndarray, offset: int = 1) -> np.ndarray:
    """A copy whose data starts `offset` bytes past a 64-byte boundary."""
    raw = np.empty(array.nbytes + 128, np.uint8)
    start = (-raw.ctypes.data) % 64 + offset
    out = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    assert array.nbytes == 0 or out.ctypes.data % 64 == offset
    return out


def read_only(array: np.ndarray) -> np.ndarray:
    """The same values in a read-only mapping, as rows of a store are; a write would be a SIGSEGV."""
    mapping = mmap.mmap(-1, max(1, array.nbytes + 3))
    mapping[3 : 3 + array.nbytes] = array.tobytes()
    out = np.frombuffer(mapping, np.uint8)[3 : 3 + array.nbytes].view(array.dtype).reshape(array.shape)
    out.flags.writeable = False
    return out


class Rows:
    """Random rows in every stored form, some of them equal, some extreme, some dead."""

    def __init__(self, dim: int, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng((dim, n, seed))
        self.dim, self.n, self.stride = dim, n, padded(dim)
        self.vectors = rng.standard_normal((n, dim)).astype(np.float32)
        self.codes = rng.integers(-127, 128, (n, self.stride), dtype=np.int8)
        if n > 4:
            self.vectors[1] = self.vectors[0]
            self.vectors[2] = -1.0
            self.codes[1] = self.codes[0]
            self.codes[2], self.codes[3] = 127, -127
        self.codes[:, dim:] = 0
        self.scales = rng.choice(np.array([0.25, 0.5, 1e-3], np.float32), n)
        if n > 4:
            self.scales[1] = self.scales[0]
        self.unit = np.zeros((n, self.stride), np.float32)
        assert reference.normalize(self.vectors, self.unit) == -1
        self.died = rng.choice(np.array([0, 0, 0, 9, 10, 11, 2**63, 2**64 - 1], np.uint64), n)
        self.allowed = np.packbits(rng.random(n) < 0.7, bitorder="little")
        self.vector = rng.standard_normal(dim).astype(np.float32)
        self.query = np.empty(self.stride, np.int16)
        self.q_scale = reference.prepare_query(self.vector, self.query)


class Search:
    def __init__(self, kernels: ModuleType, k: int) -> None:
        self.kernels: Any = kernels
        self.scores, self.rows, self.count = np.full(k, np.nan, np.float32), np.full(k, -7, np.int64), 0

    def scan_int8(self, r: Rows, lsn: int = 10, allowed: np.ndarray = NONE, first: int = 0) -> Search:
        self.count = self.kernels.scan_int8(
            r.codes, r.scales, r.died, lsn, r.query, r.q_scale, allowed, first, self.scores, self.rows, self.count
        )
        return self

    def scan_f32(self, r: Rows, lsn: int = 10, allowed: np.ndarray = NONE, first: int = 0) -> Search:
        self.count = self.kernels.scan_f32(
            r.unit, r.died, lsn, r.unit[-1], allowed, first, self.scores, self.rows, self.count
        )
        return self

    def found(self) -> list[tuple[bytes, int]]:
        self.kernels.finish_topk(self.scores, self.rows, self.count)
        assert (self.rows[self.count :] == -7).all(), "slots behind count are not touched"
        return [(s.tobytes(), int(r)) for s, r in zip(self.scores[: self.count], self.rows[: self.count], strict=True)]


def test_the_lane_asked_for_is_the_lane_that_runs() -> None:
    asked = os.environ.get("AEON_SIMD")
    if asked:
        assert _jit.simd_path == asked
    assert (_simd.CRC_PATH == "table") == (_jit.simd_path == "portable") or _simd.CRC_PATH == "armv8"


def test_every_twin_has_a_compiled_kernel_with_its_contract() -> None:
    assert sorted(compiled.__all__) == sorted(reference.__all__)
    for name in reference.__all__:
        assert getattr(compiled, name).__doc__ == getattr(reference, name).__doc__
        assert getattr(reference, name).__doc__


# --- rows in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("n", (0, 1, 37))
def test_quantize_normalize_prepare(dim: int, n: int) -> None:
    r = Rows(dim, n)
    results = []
    for kernels in BOTH:
        codes, scales = np.full((n, r.stride), 99, np.int8), np.full(n, np.nan, np.float32)
        unit, query = np.full((n, r.stride), np.nan, np.float32), np.full(r.stride, 99, np.int16)
        assert kernels.quantize(r.vectors, codes, scales) == -1
        assert kernels.normalize(r.vectors, unit) == -1
        q_scale = kernels.prepare_query(r.vector, query)
        assert not codes[:, dim:].any() and not unit[:, dim:].any() and not query[dim:].any()
        results.append((codes.tobytes(), scales.tobytes(), unit.tobytes(), query.tobytes(), q_scale))
    assert results[0] == results[1]


@pytest.mark.parametrize("dim", (1, 17, 384))
@pytest.mark.parametrize("magnitude", (1e-45, 1e-38, 3e-37, 1e-30, 1.0, 3e38))
def test_any_magnitude_gives_the_same_unit_vector(dim: int, magnitude: float) -> None:
    r = Rows(dim, 5)
    vectors = (np.sign(r.vectors) * np.float32(magnitude)).astype(np.float32)
    for kernels in BOTH:
        codes, scales, query = np.empty((5, r.stride), np.int8), np.empty(5, np.float32), np.empty(r.stride, np.int16)
        assert kernels.quantize(vectors, codes, scales) == -1
        expected = np.sign(vectors) / np.sqrt(np.float64(dim))
        assert np.allclose(codes[:, :dim] * scales[:, None], expected, rtol=1e-6)
        q_scale = kernels.prepare_query(vectors[0], query)
        assert np.allclose(query[:dim] * q_scale, expected[0], rtol=1e-6)
        unit = np.empty((5, r.stride), np.float32)
        assert kernels.normalize(vectors, unit) == -1
        assert np.allclose(unit[:, :dim], expected, rtol=1e-6)


@pytest.mark.parametrize("exponent", (-149, -140, -127, -110, -99, 0, 100, 120))
def test_a_power_of_two_changes_no_code(exponent: int) -> None:
    """Down to denormal numbers, where 127 / max |v| would be infinite."""
    small = np.random.default_rng(8).integers(-99, 100, (6, 70)).astype(np.float32)
    small[0] = 0
    small[0, 3] = 1
    scaled = np.ldexp(small, exponent)
    for kernels in BOTH:
        results = []
        for vectors in (small, scaled):
            codes, scales, query = np.empty((6, 128), np.int8), np.empty(6, np.float32), np.empty(128, np.int16)
            assert kernels.quantize(vectors, codes, scales) == -1
            q_scale = kernels.prepare_query(vectors[1], query)
            results.append((codes.tobytes(), scales.tobytes(), query.tobytes(), q_scale))
        assert results[0] == results[1]


@pytest.mark.parametrize("dim", (1, 16, 33, 384))
@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf, 0.0))
@pytest.mark.parametrize("at", (0, 6))
def test_a_bad_row_is_named(dim: int, bad: float, at: int) -> None:
    r = Rows(dim, 7)
    vectors = r.vectors.copy()
    if bad == 0.0:
        vectors[at] = np.float32(-0.0)
    else:
        vectors[at, dim - 1] = bad
    for kernels in BOTH:
        codes, scales, unit = (
            np.empty((7, r.stride), np.int8),
            np.empty(7, np.float32),
            np.empty((7, r.stride), np.float32),
        )
        assert kernels.quantize(vectors, codes, scales) == at
        assert kernels.normalize(vectors, unit) == at
        assert kernels.prepare_query(vectors[at], np.empty(r.stride, np.int16)) == 0.0


def test_halves_round_to_even() -> None:
    vector = np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]], np.float32)
    for kernels in BOTH:
        codes, scales = np.empty((1, 64), np.int8), np.empty(1, np.float32)
        kernels.quantize(vector, codes, scales)
        assert codes[0, :8].tolist() == [127, 0, 2, 2, 0, -2, -2, 126]


# --- dots ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", (*DIMS, 8192, 16384, 65536))
def test_dots(dim: int) -> None:
    r = Rows(dim, 19)
    extreme = np.full(r.stride, 16256, np.int16)
    for query in (r.query, extreme, -extreme):
        exact = r.codes.astype(np.int64) @ query.astype(np.int64)
        for kernels in BOTH:
            assert [kernels.dot_int8(row, query) for row in r.codes] == exact.tolist()
    for other in (r.codes[0], r.codes[2], np.full(r.stride, -128, np.int8)):
        exact = r.codes.astype(np.int64) @ other.astype(np.int64)
        for kernels in BOTH:
            assert [kernels.dot_int8_int8(row, other) for row in r.codes] == exact.tolist()
            out = np.zeros(19, np.int32)
            kernels.dot_rows_int8(r.codes, other, out)
            assert out.tolist() == exact.tolist()
    results = []
    for kernels in BOTH:
        out = np.zeros(19, np.float32)
        kernels.dot_rows_f32(r.unit, r.unit[3], out)
        assert out.tolist() == [kernels.dot_f32(row, r.unit[3]) for row in r.unit]
        results.append(out.tobytes())
    assert results[0] == results[1]
    assert np.allclose(out, r.unit.astype(np.float64) @ r.unit[3], atol=1e-6)


# --- scans ---------------------------------------------------------------------------------------------------------


def plain_top(r: Rows, k: int, lsn: int, allowed: np.ndarray, first: int) -> list[tuple[bytes, int]]:
    """The definition of `scan_int8`, row by row."""
    bits = np.unpackbits(allowed, count=r.n, bitorder="little") if allowed.size else np.ones(r.n, np.uint8)
    rows = []
    for i in range(r.n):
        if (r.died[i] == 0 or r.died[i] > lsn) and bits[i]:
            dot = int(r.codes[i].astype(np.int64) @ r.query.astype(np.int64))
            score = np.float32(dot) * (r.scales[i] * np.float32(r.q_scale))
            rows.append((-score, first + i, score))
    return [(score.tobytes(), row) for _, row, score in sorted(rows)[:k]]


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("n", (0, 1, 7, 8, 9, 100))
def test_scan_int8_is_its_definition(dim: int, n: int) -> None:
    r = Rows(dim, n)
    for allowed in (NONE, r.allowed):
        for k in (1, 10, 200):
            expected = plain_top(r, k, 10, allowed, 1000)
            for kernels in BOTH:
                assert Search(kernels, k).scan_int8(r, 10, allowed, 1000).found() == expected


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("n", (1, 7, 8, 9, 100))
def test_scans_agree(dim: int, n: int) -> None:
    r = Rows(dim, n)
    for k in (1, 10, 300):
        for lsn in (0, 10, 2**64 - 1):
            for allowed in (NONE, r.allowed, np.zeros_like(r.allowed)):
                int8 = [Search(m, k).scan_int8(r, lsn, allowed, 5).found() for m in BOTH]
                assert int8[0] == int8[1]
                f32 = [Search(m, k).scan_f32(r, lsn, allowed, 5).found() for m in BOTH]
                assert f32[0] == f32[1]


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_sequence_of_runs_through_both_sets(data: st.DataObject) -> None:
    """State passes between runs, kinds of call, and from twin to compiled code and back."""
    k = data.draw(st.integers(0, 12))
    few = Rows(data.draw(st.sampled_from((1, 16, 70))), data.draw(st.integers(1, 40)))
    few.scales[:] = np.float32(2.0**-20)  # few distinct scores: ties decide
    few.codes[:] = few.codes[data.draw(st.integers(0, few.n - 1))] if data.draw(st.booleans()) else few.codes
    mixed, pure = Search(reference, k), Search(reference, k)
    for _ in range(data.draw(st.integers(1, 5))):
        mixed.kernels = data.draw(st.sampled_from(BOTH))
        first, lsn = data.draw(st.sampled_from((0, 40, 1000))), data.draw(st.sampled_from((0, 9, 10, 2**63)))
        allowed = data.draw(st.sampled_from((NONE, few.allowed)))
        for search in (mixed, pure):
            search.scan_int8(few, lsn, allowed, first)
        assert mixed.count == pure.count
    mixed.kernels = data.draw(st.sampled_from(BOTH))
    assert mixed.found() == pure.found()


def test_equal_scores_keep_the_lower_rows_whatever_the_order_of_runs() -> None:
    r = Rows(64, 30)
    r.codes[:] = r.codes[0]
    r.scales[:], r.died[:] = 0.5, 0
    for kernels in BOTH:
        search = Search(kernels, 7).scan_int8(r, first=500).scan_int8(r, first=3).scan_int8(r, first=90)
        assert [row for _, row in search.found()] == [3, 4, 5, 6, 7, 8, 9]


def test_a_row_with_a_nan_scale_is_never_a_result() -> None:
    r = Rows(64, 30)
    r.scales[::2] = np.nan
    r.died[:] = 0
    for k in (5, 100):
        for kernels in BOTH:
            found = Search(kernels, k).scan_int8(r).found()
            assert len(found) == min(k, 15) and all(row % 2 for _, row in found)


def test_scales_may_be_a_field_of_records() -> None:
    r = Rows(384, 50)
    expected = Search(reference, 10).scan_int8(r).found()
    records = np.zeros(50, np.dtype([("id", "<u4"), ("pad", "u1"), ("scale", "<f4"), ("more", "u1", 9)]))
    records["scale"] = r.scales
    r.scales = records["scale"]
    assert r.scales.strides == (18,)
    for kernels in BOTH:
        assert Search(kernels, 10).scan_int8(r).found() == expected


@pytest.mark.parametrize("dim", (1, 65, 384))
@pytest.mark.parametrize("form", (misaligned, read_only))
def test_rows_lie_anywhere(dim: int, form: Any) -> None:
    r, moved = Rows(dim, 41), Rows(dim, 41)
    for name in ("vectors", "codes", "scales", "unit", "died", "allowed", "vector", "query"):
        setattr(moved, name, form(getattr(r, name)))
    for kernels in BOTH:
        for k in (3, 60):
            assert (
                Search(kernels, k).scan_int8(moved, 10, moved.allowed).found()
                == Search(reference, k).scan_int8(r, 10, r.allowed).found()
            )
            assert Search(kernels, k).scan_f32(moved).found() == Search(reference, k).scan_f32(r).found()
        codes, scales = misaligned(np.empty((41, r.stride), np.int8)), misaligned(np.empty(41, np.float32))
        assert kernels.quantize(moved.vectors, codes, scales) == -1
        want, want_scales = np.empty_like(codes), np.empty_like(scales)
        reference.quantize(r.vectors, want, want_scales)
        assert (codes == want).all() and (scales == want_scales).all()
        query = misaligned(np.empty(r.stride, np.int16))
        assert kernels.prepare_query(moved.vector, query) == r.q_scale and (query == r.query).all()
        assert kernels.dot_int8(moved.codes[5], moved.query) == reference.dot_int8(r.codes[5], r.query)
        meta = np.zeros(41, reference._check.META)
        meta["scale"] = r.scales
        crcs = np.empty(41, np.uint32)
        kernels.rows_checksum(moved.codes, meta["id"], moved.scales, crcs)
        meta["crc"] = crcs
        assert kernels.rows_verify(moved.codes, form(meta)) == -1


# --- CRC-32C -------------------------------------------------------------------------------------------------------

RFC_3720 = (
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (
        bytes.fromhex(
            "01c00000000000000000000000000000 14000000000004000000001400000018 28000000000000000200000000000000"
        ),
        0xD9963A56,
    ),
    (b"123456789", 0xE3069283),
    (b"", 0),
)


@pytest.mark.parametrize("kernels", BOTH)
def test_crc_vectors(kernels: Any) -> None:
    for data, expected in RFC_3720:
        assert kernels.crc32c(data) == expected


def slow_crc(data: bytes, crc: int = 0) -> int:
    state = crc ^ 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (reference.POLYNOMIAL if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_crc_of_every_length() -> None:
    data = np.random.default_rng(3).bytes(1100)
    for length in range(1100):
        expected = slow_crc(data[:length]) if length < 300 else compiled.crc32c(data[:length])
        for kernels in BOTH:
            assert kernels.crc32c(data[:length]) == expected


@given(st.binary(max_size=2000), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=100, deadline=None)
def test_crc_chains(data: bytes, crc: int, more: st.DataObject) -> None:
    at = more.draw(st.integers(0, len(data)))
    whole = slow_crc(data[:200], crc) if len(data) <= 200 else reference.crc32c(data, crc)
    for kernels in BOTH:
        assert kernels.crc32c(data, crc) == whole
        assert kernels.crc32c(data[at:], kernels.crc32c(data[:at], crc)) == whole


@pytest.mark.parametrize("length", (4096, 12288, 12289, 65536, 65536 + 300, 200_003, 1 << 20, (1 << 20) + 77))
def test_crc_of_long_buffers(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    piecewise = 0
    for at in range(0, length, 700):
        piecewise = compiled.crc32c(data[at : at + 700], piecewise)
    for kernels in BOTH:
        assert kernels.crc32c(data) == piecewise
        assert kernels.crc32c(data, 5) != piecewise


def test_crc_of_any_buffer() -> None:
    data = np.random.default_rng(1).bytes(4800)
    expected = reference.crc32c(data)
    mapping = mmap.mmap(-1, 4800)
    mapping[:] = data
    array = np.frombuffer(data, np.float32).reshape(3, 4, 100)
    forms = (bytearray(data), memoryview(data), mapping, array, misaligned(array), memoryview(b"x" + data)[1:])
    for form in forms:
        for kernels in BOTH:
            assert kernels.crc32c(form) == expected
    for kernels in BOTH:
        assert kernels.crc32c(np.empty((0, 3), np.float32), 17) == 17
        with pytest.raises(TypeError):
            kernels.crc32c(array[:, :, ::2])
        with pytest.raises(TypeError):
            kernels.crc32c("text")
    assert compiled.crc32c(data) != zlib.crc32(data), "CRC-32C, not CRC-32"


@pytest.mark.parametrize("stride", (64, 256, 320, 1536, 4096))
@pytest.mark.parametrize("n", (0, 1, 3, 4, 5, 33))
def test_checksums_of_rows(stride: int, n: int) -> None:
    rng = np.random.default_rng(stride + n)
    codes = rng.integers(-128, 128, (n, stride), dtype=np.int8)
    meta = np.zeros(n, np.dtype([("id", "<u8"), ("scale", "<f4"), ("crc", "<u4")]))
    meta["id"], meta["scale"] = rng.integers(0, 2**63, n), rng.random(n)
    expected = [reference.crc32c(m.tobytes()[:12] + c.tobytes()) for m, c in zip(meta, codes, strict=True)]
    for kernels in BOTH:
        for form in (codes, codes.view(np.uint8)):
            out = np.zeros(n, np.uint32)
            kernels.rows_checksum(form, meta["id"], meta["scale"], out)
            assert out.tolist() == expected
        kernels.rows_checksum(codes, meta["id"], meta["scale"], meta["crc"])
        assert kernels.rows_verify(codes, meta) == -1
        for i in range(n):
            codes[i, stride - 1] ^= 1
            assert kernels.rows_verify(codes, meta) == i
            if i + 2 < n:
                codes[i + 2, 0] ^= 64
                assert kernels.rows_verify(codes, meta) == i
                codes[i + 2, 0] ^= 64
            codes[i, stride - 1] ^= 1
            for field in ("id", "scale", "crc"):
                kept = meta[field][i]
                meta[field][i] = kept + 1
                assert kernels.rows_verify(codes, meta) == i
                meta[field][i] = kept
        assert kernels.rows_verify(codes, meta) == -1


@pytest.mark.parametrize(("size", "at"), [(128, 60), (8, 0), (8, 4), (24, 3), (300, 150), (1000, 996)])
def test_records_checksum_leaves_out_its_own_field(size, at):
    records = np.random.default_rng(size).integers(0, 256, (7, size), dtype=np.uint8)
    expected = [reference.crc32c(r[:at].tobytes() + r[at + 4 :].tobytes()) for r in records]
    for kernels in BOTH:
        out = np.zeros(14, np.uint32)
        kernels.records_checksum(records, at, out[::2])
        assert out[::2].tolist() == expected
        kernels.records_checksum(records[:0], at, out[:0])
        for wrong in (-1, size - 3):
            with pytest.raises(ValueError, match="a checksum of 4 bytes"):
                kernels.records_checksum(records, wrong, out[:7])


# --- what is refused -----------------------------------------------------------------------------------------------


def refused(call: Any) -> str:
    with pytest.raises((TypeError, ValueError, IndexError)) as caught:
        call()
    return f"{type(caught.value).__name__}: {caught.value}"


def bad_calls(m: Any) -> list[Any]:
    r = Rows(100, 20)
    codes, scales, unit = np.empty((20, 128), np.int8), np.empty(20, np.float32), np.empty((20, 128), np.float32)
    scores, rows = np.empty(5, np.float32), np.empty(5, np.int64)
    locked = np.empty(5, np.float32)
    locked.flags.writeable = False
    meta = np.zeros(20, reference._check.META)
    u32 = np.empty(20, np.uint32)
    wide = np.empty((20, 65600), np.int8)

    def scan(**changed: Any) -> Any:
        given: dict[str, Any] = {"codes": r.codes, "scales": r.scales, "died": r.died, "query": r.query}
        given |= {"allowed": NONE, "scores": scores, "rows": rows, "count": 0}
        given.update(changed)
        g = given
        return lambda: m.scan_int8(
            g["codes"], g["scales"], g["died"], 0, g["query"], 1.0, g["allowed"], 0, g["scores"], g["rows"], g["count"]
        )

    locked_codes = codes.copy()
    locked_codes.flags.writeable = False
    return [
        lambda: m.quantize(r.vectors.astype(np.float64), codes, scales),
        lambda: m.quantize(r.vectors.tolist(), codes, scales),
        lambda: m.quantize(r.vectors[0], codes, scales),
        lambda: m.quantize(r.vectors[:, ::2], codes, scales),
        lambda: m.quantize(r.vectors.T.copy().T, codes, scales),
        lambda: m.quantize(r.vectors[:19], codes, scales),
        lambda: m.quantize(r.vectors, codes[:, :64], scales),
        lambda: m.quantize(r.vectors, codes[:, :64].copy(), scales),
        lambda: m.quantize(r.vectors, codes, scales[:19]),
        lambda: m.quantize(r.vectors, codes.view(np.uint8), scales),
        lambda: m.quantize(r.vectors, locked_codes, scales),
        lambda: m.quantize(np.empty((20, 0), np.float32), codes, scales),
        lambda: m.quantize(r.vectors, np.empty((20, 100), np.int8), scales),
        lambda: m.quantize(r.vectors, wide, scales),
        lambda: m.normalize(r.vectors, unit[:, :64].copy()),
        lambda: m.normalize(r.vectors, unit[:19]),
        lambda: m.normalize(r.vectors, np.empty((20, 104), np.float32)),
        lambda: m.normalize(r.vectors, np.empty((20, 128), np.int32)),
        lambda: m.prepare_query(r.vector, np.empty(64, np.int16)),
        lambda: m.prepare_query(r.vector, np.empty(100, np.int16)),
        lambda: m.prepare_query(r.vectors[:, 0], np.empty(64, np.int16)),
        lambda: m.prepare_query(np.empty(0, np.float32), np.empty(64, np.int16)),
        lambda: m.prepare_query(r.vector, np.empty(128, np.uint16)),
        lambda: m.dot_int8(r.codes[0], r.query[:64]),
        lambda: m.dot_int8(r.codes[0][::2], r.query[:64]),
        lambda: m.dot_int8(r.codes[0], r.codes[0]),
        lambda: m.dot_int8_int8(r.codes[0], r.query),
        lambda: m.dot_int8_int8(r.codes[0, :100], r.codes[0, :100]),
        lambda: m.dot_f32(r.unit[0], r.unit[0, :64]),
        lambda: m.dot_f32(r.unit[:, 0][:16], r.unit[0, :16]),
        lambda: m.dot_rows_int8(r.codes, r.codes[0], np.empty(19, np.int32)),
        lambda: m.dot_rows_int8(r.codes, r.codes[0], np.empty(40, np.int32)[::2]),
        lambda: m.dot_rows_f32(r.unit, r.unit[0, :64], np.empty(20, np.float32)),
        lambda: m.dot_rows_f32(r.unit, r.unit[0], locked),
        scan(codes=r.codes[:, :64]),
        scan(codes=r.codes[::2]),
        scan(codes=r.codes.view(np.uint8)),
        scan(codes=r.unit),
        scan(scales=r.scales[:19]),
        scan(scales=r.scales.astype(np.float64)),
        scan(died=r.died[:19]),
        scan(died=np.zeros(40, np.uint64)[::2]),
        scan(died=r.died.view(np.int64)),
        scan(query=r.query[:64]),
        scan(query=r.query.astype(np.int32)),
        scan(allowed=np.zeros(2, np.uint8)),
        scan(allowed=np.zeros(4, np.uint8)),
        scan(allowed=np.ones(20, bool)),
        scan(scores=np.empty(4, np.float32)),
        scan(scores=locked),
        scan(scores=np.empty(10, np.float32)[::2]),
        scan(rows=rows.view(np.uint64)),
        scan(count=6),
        scan(count=-1),
        lambda: m.scan_f32(r.unit, r.died, 0, r.unit[0, :64], NONE, 0, scores, rows, 0),
        lambda: m.scan_f32(r.unit, r.died[:3], 0, r.unit[0], NONE, 0, scores, rows, 0),
        lambda: m.finish_topk(scores, rows, 6),
        lambda: m.finish_topk(scores, rows[:4], 1),
        lambda: m.finish_topk(locked, rows, 1),
        lambda: m.rows_checksum(r.codes[:, :100], meta["id"], meta["scale"], u32),
        lambda: m.rows_checksum(np.empty((20, 60), np.int8), meta["id"], meta["scale"], u32),
        lambda: m.rows_checksum(r.codes, meta["id"][:19], meta["scale"], u32),
        lambda: m.rows_checksum(r.codes, meta["id"], meta["scale"][:19], u32),
        lambda: m.rows_checksum(r.codes, meta["id"], meta["scale"], u32[:19]),
        lambda: m.rows_checksum(r.codes, meta["id"].astype(np.int64), meta["scale"], u32),
        lambda: m.rows_checksum(r.unit, meta["id"], meta["scale"], u32),
        lambda: m.rows_verify(r.codes, meta[:19]),
        lambda: m.rows_verify(r.codes, meta["id"]),
        lambda: m.rows_verify(r.codes, meta[::2]),
        lambda: m.rows_verify(r.codes[:0], meta),
        lambda: m.rows_verify(r.codes, meta[:0]),
        lambda: m.rows_verify(r.codes.astype(np.int16), meta),
    ]


@pytest.mark.parametrize("number", range(len(bad_calls(reference))))
def test_arguments_that_do_not_fit_are_refused_in_the_same_words(number: int) -> None:
    assert refused(bad_calls(reference)[number]) == refused(bad_calls(compiled)[number])


def test_a_non_native_dtype_object_is_judged_by_its_meaning() -> None:
    """A dtype that equals float32 without being the same object is accepted."""
    r = Rows(64, 9)
    r.scales = r.scales.view(np.dtype("<f4").newbyteorder("<"))
    assert Search(compiled, 3).scan_int8(r).found() == Search(reference, 3).scan_int8(r).found()
    swapped = r.vectors.astype(">f4")
    for kernels in BOTH:
        with pytest.raises(TypeError):
            kernels.quantize(swapped, np.empty((9, 64), np.int8), np.empty(9, np.float32))
