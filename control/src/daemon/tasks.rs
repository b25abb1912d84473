//! The answer to `show tasks`: what waits beside the workers' packets, as each worker tells.

use super::core::{Daemon, ReplyTo};
use crate::api::{Answer, ApiError, Code, TaskRow, TaskWait, Tasks, WorkerTasks};
use zsync_protocol::message::{Doing, ToDataplane, WorkerTask};

/// Tasks that are taken from a worker: four times as many as it tells of.
const MOST: usize = 1024;

/// A question, and what was told so far.
#[derive(Debug)]
pub(super) struct Asked {
    pub reply: ReplyTo,
    told: Vec<WorkerTasks>,
}

impl Daemon {
    /// The workers look at their tasks themselves, between two passes.
    pub(super) fn ask_tasks(&mut self, reply: ReplyTo) {
        if !self.phase.is_running() {
            let error = ApiError::new(Code::Unavailable, "no data plane is running that could have tasks");
            let _ = reply.send(Err(error));
            return;
        }
        let id = self.next_audit;
        self.next_audit = self.next_audit.wrapping_add(1);
        self.tasks_asked.insert(id, Asked { reply, told: Vec::new() });
        self.tell(&ToDataplane::Tasks { id }, &[]);
    }

    /// Some tasks of a worker.
    pub(super) fn hear_tasks(
        &mut self,
        id: u32,
        worker: u8,
        tasks: Vec<WorkerTask>,
        left_out: u32,
        late: u64,
    ) {
        let workers = self.installation.layout.workers.len();
        let Some(asked) = self.tasks_asked.get_mut(&id).filter(|_| usize::from(worker) < workers) else {
            return;
        };
        let rows = tasks.into_iter().map(row);
        match asked.told.iter_mut().find(|told| told.worker == u32::from(worker)) {
            // A worker tells of fewer; one that never ends is not listened to.
            Some(told) => told.tasks.extend(rows.take(MOST.saturating_sub(told.tasks.len()))),
            None => asked.told.push(WorkerTasks {
                worker: worker.into(),
                tasks: rows.collect(),
                left_out: left_out.into(),
                late_polls: late,
            }),
        }
    }

    /// Those were all.
    pub(super) fn end_tasks(&mut self, id: u32) {
        if let Some(Asked { reply, mut told }) = self.tasks_asked.remove(&id) {
            told.sort_by_key(|told| told.worker);
            let _ = reply.send(Ok(Answer::Tasks(Tasks { workers: told })));
        }
    }
}

fn row(task: WorkerTask) -> TaskRow {
    let state = match task.doing {
        Doing::Runs => "runs",
        Doing::Ready => "ready",
        Doing::Waits => "waits",
    };
    let wait = |(depth, what): (u8, String)| TaskWait { depth: depth.into(), what };
    TaskRow {
        depth: task.depth.into(),
        task: task.place,
        state: state.to_owned(),
        since_us: task.since_us,
        waits: task.waits.into_iter().map(wait).collect(),
    }
}
