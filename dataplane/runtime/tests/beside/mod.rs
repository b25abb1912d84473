//! The other side of a case: a server that runs while it does.

/// Starts `async fn<D: Driver>(Io<D>, Sender<SocketAddr>)` beside a case over `$driver`: as a task, or where those do not run at a
/// time, on a thread of its own. The address that it told.
macro_rules! beside {
    ($io:expr, $driver:ty, $server:path) => {{
        let (tell, told) = std::sync::mpsc::channel();
        if <$driver as zsync_runtime::Driver>::SUSPENDS {
            drop($io.spawn($server($io.clone(), tell)));
        } else {
            std::thread::spawn(move || {
                zsync_runtime::BlockingIo::new().unwrap().run(async move |io| $server(io, tell).await);
            });
        }
        loop {
            if let Ok(address) = told.try_recv() {
                break address;
            }
            $io.sleep(std::time::Duration::from_millis(1)).await.unwrap();
        }
    }};
}
pub(crate) use beside;
