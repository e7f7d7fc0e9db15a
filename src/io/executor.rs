//! One executor per core: all that is used of glommio, and the only file that names it.
//!
//! `server` starts the cores with it, `io::ring` lets their tasks run. What is taken from glommio, and why it is:
//! - a thread that is pinned to a core, or to none, and has an executor of its own;
//! - tasks that never leave it: they share state without locks, `Rc` in place of `Arc`;
//! - a way to run all tasks that are ready, and to come back, without a system call.
//!
//! What is not: its files, sockets, channels, shares and preemption. A core sleeps in its own ring (`io::ring`), which
//! takes two system calls where glommio's way to sleep and back takes eight; the log device is a ring too, because
//! one durable write took 90 us on it and 244 us through `DmaFile`. So nothing but glommio's own timer ever comes from
//! its rings, and they are looked at once a second.

use std::future::Future;
use std::io;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutor, LocalExecutorBuilder, Placement};

/// Threads that glommio starts for an executor, for blocking calls, which nothing here makes.
pub(crate) const THREADS_OF_EXECUTOR: usize = 1;
/// For files of glommio's, which are not used; the least that it takes.
const MEMORY_BYTES: usize = 64 << 10;
const RING_DEPTH: usize = 1024;
/// Long on purpose. When it fires before the first task of a round has run, as it does on a busy machine, glommio 0.9
/// takes the round for an idle one and sleeps on runnable tasks until the next event (its `run_task_queues`). Nothing
/// here rests on preemption: tasks are short, and a core waits in its own ring.
const PREEMPT_TIMER: Duration = Duration::from_secs(1);
const WAKE_INTERVAL: Duration = Duration::from_secs(1);

/// On the thread that has built it.
pub(crate) struct Executor(LocalExecutor);

impl Executor {
    pub(crate) fn build(cpu: Option<usize>, name: &str) -> io::Result<Executor> {
        Ok(Executor(builder(cpu, name).make()?))
    }

    /// Returns with the task, whatever others are still there.
    pub(crate) fn run<T>(&self, task: impl Future<Output = T>) -> T {
        self.0.run(task)
    }
}

/// A thread with an executor that runs one task, and those that it spawns.
pub(crate) struct ExecutorThread(ExecutorJoinHandle<()>);

impl ExecutorThread {
    pub(crate) fn start<F: Future<Output = ()> + 'static>(
        cpu: Option<usize>,
        name: &str,
        task: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<ExecutorThread> {
        Ok(ExecutorThread(builder(cpu, name).spawn(task)?))
    }

    /// An error where its executor could not be built.
    pub(crate) fn join(self) -> io::Result<()> {
        Ok(self.0.join()?)
    }
}

fn builder(cpu: Option<usize>, name: &str) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .io_memory(MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
}

/// A task of this core, which nobody waits for.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

/// Whoever else is ready runs first. No system call.
pub(super) async fn let_others_run() {
    glommio::executor().yield_now().await;
}

/// Bounds what a lost wake-up of the executor costs (see `PREEMPT_TIMER`): nothing else of it ever comes from outside.
pub(crate) fn wake_regularly() {
    spawn(async {
        loop {
            glommio::timer::sleep(WAKE_INTERVAL).await;
        }
    });
}

/// For tests, which have no core that waits.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn run<T>(task: impl Future<Output = T>) -> T {
        Executor::build(None, "test").unwrap().run(task)
    }

    /// The executor's own timer: what the test waits for is looked at meanwhile.
    pub(crate) async fn sleep(time: Duration) {
        glommio::timer::sleep(time).await;
    }

    /// A task beside the caller's; its value is waited for.
    pub(crate) fn task<T: 'static>(task: impl Future<Output = T> + 'static) -> impl Future<Output = T> {
        glommio::spawn_local(task)
    }

    #[test]
    fn tasks_run_in_turn_and_a_thread_ends_with_its_task() {
        let said = run(async {
            let (said, other) = std::sync::mpsc::channel();
            let also = said.clone();
            spawn(async move { also.send("other").unwrap() });
            let_others_run().await;
            said.send("own").unwrap();
            other.try_iter().collect::<Vec<_>>()
        });
        assert_eq!(said, ["other", "own"]);
        let (sender, receiver) = std::sync::mpsc::channel();
        let name = move || sender.send(std::thread::current().name().map(str::to_string)).unwrap();
        let thread = ExecutorThread::start(None, "a-core", move || async move { name() }).unwrap();
        // glommio numbers those of a process.
        assert!(receiver.recv().unwrap().is_some_and(|name| name.starts_with("a-core")));
        thread.join().unwrap();
    }
}
