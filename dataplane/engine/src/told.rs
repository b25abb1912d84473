//! A worker's tasks in the messages that tell of them.
//!
//! Keeps true: each message fits, whatever the tasks are called and wait for.

use zsync_protocol::message::{Doing, FromDataplane, PART, WorkerTask};
use zsync_runtime::{Doing as Does, Dump, TaskDump};

/// What worker `worker` answers to question `id`. At least one message, so that also one without tasks is told of.
pub(crate) fn parts(id: u32, worker: usize, dump: &Dump) -> impl Iterator<Item = FromDataplane> {
    let mut rows =
        dump.tree().into_iter().map(|(depth, task)| row(depth, task)).collect::<Vec<_>>().into_iter();
    let (left_out, late) = (u32::try_from(dump.left_out).unwrap_or(u32::MAX), dump.overrun);
    let count = rows.len().div_ceil(PART).max(1);
    (0..count).map(move |_| {
        let tasks = rows.by_ref().take(PART).collect();
        // There are at most 128 workers.
        FromDataplane::Tasks { id, worker: worker as u8, tasks, left_out, late }
    })
}

fn row(depth: usize, task: &TaskDump) -> WorkerTask {
    let doing = match task.doing {
        Does::Runs => Doing::Runs,
        Does::Ready => Doing::Ready,
        Does::Waits => Doing::Waits,
    };
    let since = u64::try_from(task.since.as_micros()).unwrap_or(u64::MAX);
    let place = format!("{}:{}", task.spawned.file(), task.spawned.line());
    let waits = task.waits.iter().map(|frame| (frame.depth, frame.site.to_string()));
    WorkerTask::new(depth, place, (doing, since), waits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_protocol::message::{MAX_MESSAGE, MAX_PLACE, MAX_WAITS, decode, encode};
    use zsync_runtime::{Instant, Tasks, traced};

    #[test]
    fn all_tasks_are_told_in_messages_that_fit() {
        let tasks = Tasks::new(Instant::ZERO).unwrap();
        const LONG: &str =
            "something that has been waited for longer than anybody can remember, in a file far down below";
        for _ in 0..100 {
            tasks.spawn(async {
                let pending = std::future::pending::<()>();
                let below = traced(LONG, traced(LONG, traced(LONG, traced(LONG, pending))));
                traced(LONG, traced(LONG, traced(LONG, traced(LONG, below)))).await;
            });
        }
        while tasks.round(Instant::ZERO, 64).more {}
        let (mut told, mut bytes) = (0, Vec::new());
        for part in parts(7, 3, &tasks.dump_some(60)) {
            encode(&part, &mut bytes).unwrap();
            assert!(bytes.len() <= MAX_MESSAGE);
            let FromDataplane::Tasks { id: 7, worker: 3, tasks, left_out: 40, late: 0 } =
                decode(&bytes, 0).unwrap()
            else {
                panic!("{part:?}")
            };
            for task in &tasks {
                assert_eq!((task.depth, task.doing, task.waits.len()), (0, Doing::Waits, MAX_WAITS));
                assert!(task.place.contains("told.rs:"), "{task:?}");
                assert!(task.waits.iter().all(|(_, what)| what.len() == MAX_PLACE && what.ends_with(')')));
            }
            told += tasks.len();
        }
        assert_eq!(told, 60);
        assert_eq!(parts(1, 0, &Dump::default()).count(), 1);
    }
}
