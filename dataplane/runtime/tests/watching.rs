//! What a simulated disk tells those who watch is what the kernel tells: the same things are done to both, at random, and the events
//! compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zsync_runtime::{
    BlockingIo, Driver, File, Io, OpenOptions, ReadFlags, SimIo, WatchEvent, WatchFlags, Watches,
};

/// Programs that are tried; `ZSYNC_LONG=1`: many more.
fn programs() -> u64 {
    if std::env::var("ZSYNC_LONG").is_ok_and(|long| long == "1") { 20_000 } else { 300 }
}

/// One number after the other, as the seed says. (xorshift64*.)
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Some of the events that there are, nearly all, or none, and ways to watch; now and then something that there is not.
fn mask(chance: &mut Chance) -> WatchFlags {
    let some = WatchFlags::from_bits_retain(chance.below(1 << 12) as u32) & WatchFlags::ALL_EVENTS;
    let unheard = WatchFlags::from_bits_retain(1 << chance.below(32));
    let (none, all) = (WatchFlags::empty(), WatchFlags::ALL_EVENTS);
    let events = chance.one(&[some, some, some, all, all, all - WatchFlags::ACCESS, none, unheard]);
    let mut way = || {
        let ways = [
            WatchFlags::MASK_ADD,
            WatchFlags::ONESHOT,
            WatchFlags::EXCL_UNLINK,
            WatchFlags::MASK_CREATE,
            WatchFlags::ONLYDIR,
            WatchFlags::DONT_FOLLOW,
        ];
        if chance.below(2) == 0 { none } else { chance.one(&ways) }
    };
    events | way() | way()
}

/// What was told, and which of the things could be done. Cookies are numbered anew, for the
/// kernel counts the renames of all the machine.
#[derive(Debug, PartialEq)]
struct Told {
    events: Vec<WatchEvent>,
    done: Vec<Result<i32, String>>,
}

/// Does fifty things in an empty directory, and reads all that is told of them.
async fn program<D: Driver>(io: Io<D>, root: &Path, seed: u64) -> Told {
    let mut chance = Chance(seed * 2 + 1);
    let watches = Watches::new(&io).unwrap();
    let (inner, outer) = (root.join("d"), root.join("e"));
    for directory in [root, &inner, &outer] {
        io.make_directory(directory).unwrap();
    }
    let paths: Vec<PathBuf> =
        ["a", "b", "long enough for more", "d/a", "d/b", "e/a", "d", "e"].map(|name| root.join(name)).into();
    let mut open: Vec<(File<D>, bool)> = Vec::new();
    let mut done = Vec::new();
    for _ in 0..50 {
        let (one, two) = (&paths[chance.below(paths.len())], &paths[chance.below(paths.len())]);
        let result = match chance.below(14) {
            0..=2 => watches.add(one, mask(&mut chance)),
            3 => watches.add(root, mask(&mut chance)),
            4 => watches.remove(1 + chance.below(4) as i32).map(|()| 0),
            5..=6 => {
                let [read, write, create] = [0; 3].map(|_| chance.below(2) == 1);
                let options = OpenOptions { read, write, create: create && write, truncate: false };
                let is_directory = io.metadata(one).is_ok_and(|metadata| metadata.directory);
                File::open(&io, one, options).map(|file| open.push((file, is_directory))).map(|()| 0)
            }
            7 => {
                open.truncate(chance.below(4));
                Ok(0)
            }
            8..=9 if !open.is_empty() => {
                let (file, is_directory) = &open[chance.below(open.len())];
                match chance.below(5) {
                    0 => file.read(0, Vec::with_capacity(9)).await.map(|read| read.len() as i32),
                    1 => file.write(3, vec![1; 5]).await.map(|_| 0),
                    2 => file.truncate(chance.below(9) as u64).map(|()| 0),
                    3 => file.sync(true).await.map(|()| 0),
                    // Of a directory, each kernel's file system says something else.
                    _ => file.len().map(|length| if *is_directory { 0 } else { length as i32 }),
                }
            }
            10 => io.rename(one, two).map(|()| 0),
            11 => io.remove_file(one).map(|()| 0),
            12 => io.remove_directory(one).map(|()| 0),
            13 => io.make_directory(one).map(|()| 0),
            _ => io.names(one).map(|names| names.len() as i32),
        };
        let root = root.to_str().unwrap();
        done.push(result.map_err(|error| error.to_string().replace(root, "")));
    }
    drop(open);
    let mut events: Vec<WatchEvent> = Vec::new();
    while let Ok(event) = io.timeout(Duration::from_millis(1), watches.next()).await {
        events.push(event.unwrap());
    }
    let cookies: BTreeSet<u32> = events.iter().map(|event| event.cookie).chain([0]).collect();
    for event in &mut events {
        event.cookie = cookies.range(..event.cookie).count() as u32;
    }
    Told { events, done }
}

#[test]
fn a_simulation_tells_what_the_kernel_tells() {
    let root = std::env::temp_dir().join(format!("watching-{}", std::process::id()));
    let mut kinds = ReadFlags::empty();
    for seed in 0..programs() {
        let place = root.clone();
        let real = BlockingIo::new().unwrap().run(async move |io| program(io, &place, seed).await);
        std::fs::remove_dir_all(&root).unwrap();
        let place = root.clone();
        let simulated = SimIo::new(seed).unwrap().run(async move |io| program(io, &place, seed).await);
        for (number, (real, simulated)) in real.done.iter().zip(&simulated.done).enumerate() {
            assert_eq!(simulated, real, "seed {seed}, {number}");
        }
        for (number, (real, simulated)) in real.events.iter().zip(&simulated.events).enumerate() {
            assert_eq!(simulated, real, "seed {seed}, event {number}");
        }
        assert_eq!(simulated.events.len(), real.events.len(), "seed {seed}");
        kinds = real.events.iter().fold(kinds, |kinds, event| kinds | event.what);
    }
    let all = ReadFlags::from_bits_retain(WatchFlags::ALL_EVENTS.bits());
    assert!(kinds.contains(all | ReadFlags::ISDIR | ReadFlags::IGNORED), "{kinds:?}");
}
