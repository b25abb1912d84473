//! A child process that changes shared memory one instruction at a time (ptrace), and what its parent sees after each.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use zsync_packet::region::Region;

/// Memory that a child shares with its parent.
struct Mapping(NonNull<u8>, usize);

// SAFETY: an address and a length; the memory is reached through a region alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `shared` with this length, and the last region over it is gone.
        unsafe { libc::munmap(self.0.as_ptr().cast(), self.1) };
    }
}

/// New memory of this length, which children share.
pub fn shared(len: usize) -> Region {
    let (read_write, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, wherever the kernel likes.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), len, read_write, flags, -1, 0) };
    assert_ne!(base, libc::MAP_FAILED);
    let base = NonNull::new(base.cast()).expect("no mapping is at 0");
    // SAFETY: the mapping is page-aligned, readable and writable, and lives as long as the region.
    unsafe { Region::from_raw(base, len, Arc::new(Mapping(base, len))) }
}

/// All of it, as it is now.
pub fn words(region: &Region) -> Vec<u64> {
    region.u64s(0, region.len() / 8).unwrap().iter().map(|word| word.load(Relaxed)).collect()
}

/// Writes all of it.
pub fn fill(region: &Region, words: &[u64]) {
    region.u64s(0, words.len()).unwrap().iter().zip(words).for_each(|(to, from)| to.store(*from, Relaxed));
}

/// Memory of this process alone with this in it.
pub fn copy(words: &[u64]) -> Region {
    let region = Region::heap(words.len() * 8);
    fill(&region, words);
    region
}

/// Runs `change` in a child, and shows the memory after each instruction that changed it.
pub fn step_through(region: &Region, change: impl FnOnce(), mut each: impl FnMut(&[u64])) {
    // SAFETY: the child calls nothing but `change`, which works on memory that is there, and exits.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child: {}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: asks to be traced, and stops until the parent is there.
        let traced =
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0 && libc::raise(libc::SIGSTOP) == 0 };
        if traced {
            change();
        }
        // SAFETY: ends the child at once, without what the parent has registered for its end.
        unsafe { libc::_exit(i32::from(!traced)) };
    }
    let mut last = words(region);
    loop {
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        if libc::WIFEXITED(status) {
            assert_eq!(libc::WEXITSTATUS(status), 0, "the child was not allowed to be traced");
            break;
        }
        let signal = libc::WSTOPSIG(status);
        assert!(libc::WIFSTOPPED(status) && [libc::SIGSTOP, libc::SIGTRAP].contains(&signal), "{status:#x}");
        let changed = region.u64s(0, last.len()).unwrap();
        if changed.iter().zip(&last).any(|(now, last)| now.load(Relaxed) != *last) {
            last = words(region);
            each(&last);
        }
        // SAFETY: the child is stopped, and traced by this thread.
        let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0) };
        assert_eq!(stepped, 0, "{}", std::io::Error::last_os_error());
    }
}
