//! Fetching memory into the processor's cache before it is needed. Where thousands of things are gone through that lie all
//! over the memory, each would else be waited for.

/// So many bytes come at a time.
const LINE: usize = 64;
/// Lines of bytes that are fetched at most: what follows them comes by itself.
const MOST: usize = 4;

/// Fetches a value, without waiting for it.
#[inline]
pub fn fetch<T>(value: &T) {
    for line in 0..size_of::<T>().div_ceil(LINE) {
        fetch_line(std::ptr::from_ref(value).cast::<u8>().wrapping_add(line * LINE));
    }
}

/// Fetches the beginning of some bytes, without waiting for it.
#[inline]
pub fn fetch_bytes(bytes: &[u8]) {
    for line in bytes.chunks(LINE).take(MOST) {
        fetch_line(line.as_ptr());
    }
}

#[inline]
fn fetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has SSE, and a hint about an address touches nothing, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
