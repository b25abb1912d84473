//! Blocks of memory for tasks, by size.
//!
//! Owns: the chunks that blocks are cut from. A block that is given back serves the next task of its size, so a program that
//! is warm allocates nothing. Keeps true: a block is aligned to a cache line and at least as long as its class says; all
//! blocks are back before the memory goes ([`super::Tasks`] sees to it).
//!
//! What is unsafe here: the blocks are raw memory. Whoever takes one owns it until it gives it back, with the same class.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

/// A cache line; the alignment of every block.
pub(super) const LINE: usize = 64;
/// Bytes of the blocks of each class. A future that is longer, or aligned to more, has an allocation of its own.
const SIZES: [usize; 14] = [128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384];
/// Bytes that are allocated at once, or one block when that is longer.
const CHUNK: usize = 32 << 10;

/// Which block a type needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Block(u8),
    /// An allocation of its own.
    Own(Layout),
}

impl Class {
    /// For a type of this layout.
    pub(super) const fn of(layout: Layout) -> Self {
        if layout.align() <= LINE {
            let mut class = 0;
            while class < SIZES.len() {
                if layout.size() <= SIZES[class] {
                    return Self::Block(class as u8);
                }
                class += 1;
            }
        }
        Self::Own(layout)
    }
}

/// A free block: the next one of its class.
struct Free {
    next: Option<NonNull<Free>>,
}

/// See the module.
pub(super) struct Memory {
    free: [Cell<Option<NonNull<Free>>>; SIZES.len()],
    chunks: RefCell<Vec<(NonNull<u8>, Layout)>>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { free: Default::default(), chunks: RefCell::default() }
    }

    /// A block of this class, with anything in it. It is the caller's until it gives it back.
    #[inline]
    pub(super) fn take(&self, class: Class) -> NonNull<u8> {
        match class {
            Class::Block(class) => {
                let list = &self.free[usize::from(class)];
                let block = match list.get() {
                    Some(block) => block,
                    None => self.cut(usize::from(class)),
                };
                // SAFETY: what the list has are blocks that nobody owns, each with a `Free` in it.
                list.set(unsafe { block.as_ref() }.next);
                block.cast()
            }
            Class::Own(layout) => own(layout),
        }
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// It is a block of this memory and of this class, and nobody uses it any more.
    #[inline]
    pub(super) unsafe fn give(&self, block: NonNull<u8>, class: Class) {
        match class {
            Class::Block(class) => {
                let list = &self.free[usize::from(class)];
                let free = block.cast::<Free>();
                // SAFETY: the block is ours, aligned to a line, and longer than a `Free`.
                unsafe { free.write(Free { next: list.get() }) };
                list.set(Some(free));
            }
            // SAFETY: it was allocated with this layout, by `take`.
            Class::Own(layout) => unsafe { dealloc(block.as_ptr(), layout) },
        }
    }

    /// Allocates a chunk and puts its blocks on their list; the first of them.
    #[cold]
    fn cut(&self, class: usize) -> NonNull<Free> {
        let size = SIZES[class];
        let count = (CHUNK / size).max(1);
        let layout = Layout::from_size_align(size * count, LINE).expect("a chunk's layout");
        let chunk = own(layout);
        self.chunks.borrow_mut().push((chunk, layout));
        let mut next = None;
        for index in (0..count).rev() {
            // SAFETY: the chunk has `count` blocks of `size` bytes.
            let block = unsafe { chunk.add(index * size) }.cast::<Free>();
            // SAFETY: nobody else knows it; it is aligned, as its size is a multiple of a line.
            unsafe { block.write(Free { next }) };
            next = Some(block);
        }
        next.expect("a chunk has a block")
    }
}

/// Memory of its own.
fn own(layout: Layout) -> NonNull<u8> {
    debug_assert!(layout.size() > 0);
    // SAFETY: no layout of a task or a chunk is empty.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (chunk, layout) in self.chunks.get_mut().drain(..) {
            // SAFETY: it was allocated so, and all of its blocks are back.
            unsafe { dealloc(chunk.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_shortest_that_fits() {
        let of = |size, align| Class::of(Layout::from_size_align(size, align).unwrap());
        assert_eq!(of(1, 1), Class::Block(0));
        assert_eq!(of(128, 64), Class::Block(0));
        assert_eq!(of(129, 8), Class::Block(1));
        assert_eq!(of(16384, 8), Class::Block(13));
        assert!(matches!(of(16385, 8), Class::Own(_)));
        assert!(matches!(of(8, 128), Class::Own(_)));
        assert!(SIZES.iter().all(|size| size.is_multiple_of(LINE)));
    }

    #[test]
    fn a_block_that_is_back_is_the_next_one_out() {
        let memory = Memory::new();
        for class in (0..SIZES.len() as u8).map(Class::Block) {
            let blocks: Vec<_> = (0..100).map(|_| memory.take(class)).collect();
            for (index, block) in blocks.iter().enumerate() {
                assert!(block.as_ptr().addr().is_multiple_of(LINE));
                // SAFETY: it is ours, and 128 bytes at least.
                unsafe { block.write_bytes(index as u8, 128) };
            }
            for (index, block) in blocks.iter().enumerate() {
                // SAFETY: as above.
                assert_eq!(unsafe { block.add(127).read() }, index as u8, "blocks overlap");
            }
            let chunks = memory.chunks.borrow().len();
            // SAFETY: they are of this class, and not used below.
            blocks.iter().for_each(|block| unsafe { memory.give(*block, class) });
            for block in blocks.iter().rev() {
                assert_eq!(memory.take(class), *block);
            }
            assert_eq!(memory.chunks.borrow().len(), chunks);
        }
    }

    #[test]
    fn what_no_class_holds_has_memory_of_its_own() {
        let memory = Memory::new();
        let class = Class::of(Layout::from_size_align(100_000, 4096).unwrap());
        let block = memory.take(class);
        assert!(block.as_ptr().addr().is_multiple_of(4096));
        // SAFETY: it is ours, and of this class.
        unsafe {
            block.write_bytes(1, 100_000);
            memory.give(block, class);
        }
    }
}
