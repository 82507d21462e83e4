//! The program's own allocator, beyond allocating.

unsafe extern "C" {
    // Of the allocator that the program is linked with; the crate `mimalloc` does not offer it.
    fn mi_collect(force: bool);
}

/// Gives back to the system what is free in the heap, of whatever thread it was. The allocator does so by itself only
/// while something is allocated, and holds on to what a burst of messages took once there are no more. Takes a fraction
/// of a millisecond, or some where much is given back.
pub fn give_back() {
    // SAFETY: it may be called from any thread at any time; what is allocated stays as it is.
    unsafe { mi_collect(true) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_allocated_stays_as_it_is() {
        let kept: Vec<Vec<u8>> = (0..1000_u32).map(|n| vec![n as u8; 1000]).collect();
        drop(vec![1_u8; 50 << 20]);
        super::give_back();
        assert!(
            kept.iter()
                .zip(0_u32..)
                .all(|(kept, n)| kept.iter().all(|byte| *byte == n as u8))
        );
    }
}
