//! The log's lines on their way to standard error, written by a thread of their own.
//!
//! Owns: the lines that wait, 4,096 at most. Refuses none: those that there is no room for are counted, and told of as soon as there is.
//! Keeps true: who logs waits neither for a disk nor for whoever should read a pipe, since packets may wait for what it does next; lines
//! are written whole and in their order.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait at most: some hundred KiB.
const ROOM: usize = 4096;

enum Order {
    Write(Vec<u8>),
    /// All before this is to be written; then who waits is told.
    Flush(SyncSender<()>),
}

/// See the module. A copy is another name for the same.
#[derive(Clone, Debug)]
pub struct Lines {
    orders: SyncSender<Order>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    /// To this writer, each line by a call of its own. The thread ends when nobody has them any more.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn to(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (orders, waiting) = sync_channel(ROOM);
        let lost = Arc::new(AtomicU64::new(0));
        let mine = lost.clone();
        thread::Builder::new().name("log".into()).spawn(move || write_all(&waiting, &mine, writer))?;
        Ok(Self { orders, lost })
    }

    /// Waits until all is written that was logged before, so long at most. Whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let (done, written) = sync_channel(1);
        self.orders.try_send(Order::Flush(done)).is_ok() && written.recv_timeout(limit).is_ok()
    }
}

/// What cannot be written, to a full disk for one, is lost.
fn write_all(orders: &Receiver<Order>, lost: &AtomicU64, mut writer: impl Write) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Write(line) => {
                let _ = writer.write_all(&line);
            }
            Order::Flush(done) => {
                let _ = done.send(());
            }
        }
        let lost = lost.swap(0, Relaxed);
        if lost > 0 {
            let _ = writer
                .write_all(format!("{lost} lines of the log were lost here: nobody took them\n").as_bytes());
        }
    }
}

/// One line, as `tracing_subscriber` gives it: whole.
#[derive(Debug)]
pub struct Line<'l>(&'l Lines);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.orders.try_send(Order::Write(line.to_vec())).is_err() {
            self.0.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = Line<'l>;

    fn make_writer(&'l self) -> Line<'l> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A writer that waits while somebody has its text.
    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn lines_come_whole_and_in_their_order() {
        let text = Text::default();
        let lines = Lines::to(text.clone()).unwrap();
        let expected: String = (0..500).map(|number| format!("line {number}\n")).collect();
        expected
            .split_inclusive('\n')
            .for_each(|line| lines.make_writer().write_all(line.as_bytes()).unwrap());
        assert!(lines.flush(SOON));
        assert_eq!(String::from_utf8(text.0.lock().unwrap().clone()).unwrap(), expected);
    }

    #[test]
    fn who_logs_does_not_wait_for_who_reads_and_what_is_lost_is_told() {
        let text = Text::default();
        let lines = Lines::to(text.clone()).unwrap();
        let stuck = text.0.lock().unwrap();
        let more = 100;
        // One is in the writer's hands, or not yet.
        for _ in 0..ROOM + 1 + more {
            lines.make_writer().write_all(b"line\n").unwrap();
        }
        assert!(!lines.flush(Duration::from_millis(1)));
        drop(stuck);
        while !lines.flush(SOON) {
            thread::yield_now();
        }
        let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
        let written = text.lines().filter(|line| *line == "line").count();
        let lost: usize = text
            .lines()
            .filter_map(|line| {
                line.strip_suffix(" lines of the log were lost here: nobody took them")?.parse::<usize>().ok()
            })
            .sum();
        assert!((more..=more + 1).contains(&lost), "{lost}");
        assert_eq!(written + lost, ROOM + 1 + more);
    }
}
