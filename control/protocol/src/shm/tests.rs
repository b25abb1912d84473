//! Sharing, seals, huge pages and payloads.

use super::*;
use std::sync::atomic::Ordering::Relaxed;

fn unsealed(len: u64) -> OwnedFd {
    let fd = memfd("zsync-test", MemfdFlags::empty()).unwrap();
    ftruncate(&fd, len).unwrap();
    fd
}

#[test]
fn two_mappings_of_one_descriptor_are_the_same_memory() {
    let memory = Memory::create("zsync-test", 10_000, Huge::Never).unwrap();
    assert_eq!(memory.region.len(), 10_000);
    let writer = map(memory.fd.as_fd(), 10_000, Access::ReadWrite).unwrap();
    let reader = map(memory.fd.as_fd(), 9_000, Access::Read).unwrap();
    writer.u64s(8992, 1).unwrap()[0].store(7, Relaxed);
    drop(writer);
    assert_eq!(reader.u64s(8992, 1).unwrap()[0].load(Relaxed), 7);
    assert_eq!(memory.region.u64s(8992, 1).unwrap()[0].load(Relaxed), 7);
}

#[test]
fn the_mapping_outlives_the_descriptor_and_ends_with_the_last_clone() {
    let memory = Memory::create("zsync-lifetime-test", 1 << 20, Huge::Never).unwrap();
    let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().contains("zsync-lifetime-test");
    let part = memory.region.part(4096..8192).unwrap();
    drop(memory);
    part.u8s(0, 1).unwrap()[0].store(1, Relaxed);
    assert!(mapped());
    drop(part);
    assert!(!mapped());
}

#[test]
fn nobody_can_resize_shared_memory_or_lift_its_seals() {
    let memory = Memory::create("zsync-test", 8192, Huge::Never).unwrap();
    assert_eq!(ftruncate(&memory.fd, 0), Err(Errno::PERM));
    assert_eq!(ftruncate(&memory.fd, 1 << 20), Err(Errno::PERM));
    assert_eq!(fcntl_add_seals(&memory.fd, SealFlags::WRITE), Err(Errno::PERM));
}

#[test]
fn a_descriptor_that_could_be_pulled_away_is_not_mapped() {
    let open = unsealed(8192);
    assert!(matches!(map(open.as_fd(), 8192, Access::Read), Err(MemoryError::NotSealed { .. })));
    fcntl_add_seals(&open, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    let error = map(open.as_fd(), 8192, Access::Read).unwrap_err();
    assert!(matches!(&error, MemoryError::NotSealed { missing } if missing == "SEAL"), "{error}");
    let (pipe, _writer) = io::pipe().unwrap();
    assert!(matches!(map(pipe.as_fd(), 1, Access::Read), Err(MemoryError::NotSealed { .. })));
    let short = Memory::create("zsync-test", 4096, Huge::Never).unwrap();
    let error = map(short.fd.as_fd(), 4097, Access::Read).unwrap_err();
    assert!(matches!(error, MemoryError::TooShort { have: 4096, want: 4097 }), "{error}");
    assert!(matches!(map(short.fd.as_fd(), 0, Access::Read), Err(MemoryError::Length { len: 0 })));
}

#[test]
fn lengths_that_no_memory_has_are_refused() {
    for len in [0, usize::MAX, isize::MAX as usize + 1] {
        assert!(
            matches!(Memory::create("zsync-test", len, Huge::Never), Err(MemoryError::Length { .. })),
            "{len}"
        );
    }
}

#[test]
fn huge_pages_fall_back_with_the_reason_or_are_an_error() {
    // More than any machine has free: a pebibyte.
    let len = 1 << 50;
    let error = Memory::create("zsync-test", len, Huge::Require).unwrap_err();
    assert!(matches!(error, MemoryError::NoHugePages { .. }), "{error}");
    assert!(error.to_string().contains("vm.nr_hugepages"));
    let small = Memory::create("zsync-test", HUGE_PAGE + 1, Huge::Auto).unwrap();
    match &small.pages {
        Pages::Base => panic!("huge pages were not tried"),
        Pages::BaseInstead(why) => assert!(small.pages.to_string().contains(&why.to_string())),
        Pages::Huge => assert_eq!(fstat(&small.fd).unwrap().st_size, 2 * HUGE_PAGE as i64),
    }
    let last = small.region.u8s(HUGE_PAGE, 1).unwrap();
    last[0].store(1, Relaxed);
    let again = map(small.fd.as_fd(), HUGE_PAGE + 1, Access::Read).unwrap();
    assert_eq!(again.u8s(HUGE_PAGE, 1).unwrap()[0].load(Relaxed), 1);
}

#[test]
fn a_payload_is_read_back_and_cannot_change() {
    let payload: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    let fd = sealed_bytes("zsync-test", &payload).unwrap();
    assert_eq!(rustix::io::pwrite(&fd, b"x", 0), Err(Errno::PERM));
    // Twice: reading does not move the position.
    assert_eq!(read_sealed(fd.as_fd(), 100_000).unwrap(), payload);
    assert_eq!(read_sealed(fd.as_fd(), 100_000).unwrap(), payload);
    let error = read_sealed(fd.as_fd(), 99_999).unwrap_err();
    assert!(matches!(error, MemoryError::TooLong { have: 100_000, limit: 99_999 }), "{error}");
    let open = unsealed(16);
    assert!(matches!(read_sealed(open.as_fd(), 16), Err(MemoryError::NotSealed { .. })));
    assert_eq!(read_sealed(sealed_bytes("zsync-test", b"").unwrap().as_fd(), 0).unwrap(), b"");
}
