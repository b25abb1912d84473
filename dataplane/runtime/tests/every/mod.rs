//! Each case on each Io, and on a ring that lacks all that can be done without.

/// Makes a test of each case for each Io: `async fn<D: Driver>(Io<D>)`, in the module around it.
/// The simulation may be one that is given first, as `in SimIo`.
macro_rules! on_every_io {
    ($($case:ident),* $(,)?) => {
        on_every_io!(in zsync_runtime::SimIo::new(7).unwrap(); $($case),*);
    };
    (in $sim:expr; $($case:ident),* $(,)?) => {
        on_every_io!(blocking, zsync_runtime::BlockingIo::new().unwrap(), $($case),*);
        on_every_io!(pool, zsync_runtime::PoolIo::new().unwrap(), $($case),*);
        on_every_io!(uring, zsync_runtime::UringIo::new().unwrap(), $($case),*);
        on_every_io!(
            uring_by_readiness,
            zsync_runtime::UringIo::without(&zsync_runtime::Uring::OPERATIONS).unwrap(),
            $($case),*
        );
        on_every_io!(simulated, $sim, $($case),*);
    };
    ($name:ident, $io:expr, $($case:ident),*) => {
        mod $name {
            $(
                #[test]
                fn $case() {
                    $io.run(async |io| super::$case(io).await);
                }
            )*
        }
    };
}
pub(crate) use on_every_io;
