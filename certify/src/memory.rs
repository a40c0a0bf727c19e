//! What this process keeps of the memory that it has freed.
//!
//! Each further run is a handful of threads and a mount whose server reads into a buffer of 16 MiB; and each starts dozens
//! of programs, by fork. glibc raises by itself the size from which memory goes back to the system as soon as it is
//! freed, and then every heap keeps such a buffer: hundreds of MiB that each fork has to copy the page tables of.
//! Sources: mallopt(3).
#![allow(unsafe_code, reason = "one setting of the C library's allocator")]

/// From this size on memory is mapped for itself, and goes back as soon as it is freed, in bytes.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 1 << 20;

/// Keeps this process small. For the beginning of a program; it changes nothing where the C library is not glibc.
pub fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread, and takes no pointers. That it failed would be about speed only.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    /// Bytes that are mapped for themselves while a large buffer is in use.
    fn mapped_with_a_buffer() -> usize {
        let buffer = std::hint::black_box(vec![0_u8; 16 << 20]);
        // SAFETY: it only reads the allocator's own figures.
        let figures = unsafe { libc::mallinfo2() };
        drop(buffer);
        figures.hblkhd
    }

    #[test]
    fn a_large_buffer_is_mapped_each_time() {
        super::give_back_freed();
        // Without it, the first one that is freed would make the next come from the heap.
        for nth in 1..=3 {
            let mapped = mapped_with_a_buffer();
            assert!(mapped >= 16 << 20, "buffer {nth}: {mapped} bytes are mapped");
        }
    }
}
