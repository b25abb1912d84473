//! Tasks as text: as a tree, and as programs that draw flame graphs take them.

use super::View;
use crate::api::{TaskRow, Tasks};
use crate::ctl::table::Table;
use crate::ctl::text::{printable, separated, short};
use std::fmt::Write as _;

impl View {
    pub(super) fn tasks(self, tasks: &Tasks) -> String {
        let mut table = Table::new(&["WORKER", "TASK", "STATE", ">FOR", "WAITS FOR"]);
        let mut rest = String::new();
        for worker in &tasks.workers {
            for task in &worker.tasks {
                let place = format!("{}{}", "  ".repeat(task.depth as usize), task.task);
                let wait = |at: usize| match task.waits.get(at) {
                    Some(wait) => format!("{}{}", "  ".repeat(wait.depth as usize), wait.what),
                    None => String::new(),
                };
                let number = worker.worker.to_string();
                table.row([number, place, task.state.clone(), short(task.since_us), wait(0)]);
                for at in 1..task.waits.len() {
                    table.row(["", "", "", "", &wait(at)]);
                }
            }
            if worker.left_out > 0 {
                let left_out = separated(worker.left_out);
                let _ = writeln!(rest, "worker {}: {left_out} tasks more", worker.worker);
            }
            if worker.late_polls > 0 {
                let late = separated(worker.late_polls);
                let _ = writeln!(
                    rest,
                    "worker {}: {late} polls held packets up for more than 200µs",
                    worker.worker
                );
            }
        }
        self.sections([Some(&table)], &rest)
    }
}

/// A line for each wait: the worker, the task below those that it is below of, what it waits for, and for how many microseconds.
pub(crate) fn folded(tasks: &Tasks) -> String {
    let mut text = String::new();
    for worker in &tasks.workers {
        let mut above: Vec<String> = Vec::new();
        for task in &worker.tasks {
            above.truncate(task.depth as usize);
            above.push(frame(&task.task));
            let stack = format!("worker {};{}", worker.worker, above.join(";"));
            let us = task.since_us.max(1);
            if task.waits.is_empty() {
                let _ = writeln!(text, "{stack};{} {us}", frame(&task.state));
            }
            for waits in leaves(task) {
                let _ = writeln!(text, "{stack};{waits} {us}");
            }
        }
    }
    text
}

/// Each wait that has no part, behind those that it is a part of.
fn leaves(task: &TaskRow) -> Vec<String> {
    let (mut above, mut leaves): (Vec<String>, _) = (Vec::new(), Vec::new());
    for (at, wait) in task.waits.iter().enumerate() {
        above.truncate(wait.depth as usize);
        above.push(frame(&wait.what));
        if task.waits.get(at + 1).is_none_or(|next| next.depth <= wait.depth) {
            leaves.push(above.join(";"));
        }
    }
    leaves
}

/// Without what ends a frame of a stack, or its line.
fn frame(text: &str) -> String {
    printable(&text.replace(';', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Answer, TaskWait, WorkerTasks};
    use crate::ctl::show::render;
    use std::time::SystemTime;

    fn sample() -> Tasks {
        let row = |depth, task: &str, since_us, waits: &[(u32, &str)]| {
            let wait = |(depth, what): &(u32, &str)| TaskWait { depth: *depth, what: (*what).to_owned() };
            let waits = waits.iter().map(wait).collect();
            TaskRow { depth, task: task.to_owned(), state: "waits".to_owned(), since_us, waits }
        };
        let tasks = vec![
            row(0, "runner.rs:57", 3_200_000, &[(0, "the tasks of a scope (chores.rs:34)")]),
            row(
                1,
                "chores.rs:31",
                85,
                &[(0, "flows; and all (chores.rs:55)"), (1, "time to pass (chores.rs:63)")],
            ),
            TaskRow { state: "ready".to_owned(), ..row(0, "a.rs:1", 0, &[]) },
        ];
        Tasks { workers: vec![WorkerTasks { worker: 0, tasks, left_out: 1200, late_polls: 1 }] }
    }

    #[test]
    fn a_tree_for_people_and_stacks_for_programs() {
        let view = View { exact: false, colour: false, now: SystemTime::UNIX_EPOCH };
        assert_eq!(
            render(&Answer::Tasks(sample()), view),
            "\
WORKER  TASK            STATE   FOR  WAITS FOR
0       runner.rs:57    waits  3.2s  the tasks of a scope (chores.rs:34)
0         chores.rs:31  waits  85µs  flows; and all (chores.rs:55)
                                       time to pass (chores.rs:63)
0       a.rs:1          ready   0µs

worker 0: 1,200 tasks more
worker 0: 1 polls held packets up for more than 200µs
"
        );
        assert_eq!(
            folded(&sample()),
            "\
worker 0;runner.rs:57;the tasks of a scope (chores.rs:34) 3200000
worker 0;runner.rs:57;chores.rs:31;flows  and all (chores.rs:55);time to pass (chores.rs:63) 85
worker 0;a.rs:1;ready 1
"
        );
    }
}
